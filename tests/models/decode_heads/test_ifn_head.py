import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch.nn import functional as F

from ifn_plugin.models import IFN, IFNHead
from ifn_plugin.models.decode_heads.ifn_head import DecoderLevel

BCE = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)
DICE = dict(type='mmseg.DiceLoss', use_sigmoid=True)


def pair_features(n=2, height=32, width=32, scale=1.):
    strides = (1, 2, 4, 8, 16)
    channels = (128, 256, 512, 1024, 1024)
    return [scale * torch.randn(n, c, -(-height // s), -(-width // s)) for c, s in zip(channels, strides)]


def samples(label):
    return [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in label]


def label_with_ignored(n=2, size=32):
    label = (torch.rand(n, size, size) > 0.7).long()
    label[:, :5, :7] = 255
    return label


@pytest.fixture(scope='module')
def head():
    torch.manual_seed(0)
    return IFNHead()


def test_parameters_all_get_a_gradient():
    head = IFNHead()
    assert sum(p.numel() for p in head.parameters()) == 21_012_861
    losses = head.loss(pair_features(), samples(label_with_ignored()), {})
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize('height, width', [(64, 32), (17, 16), (50, 33), (2, 3)])
def test_any_size_gives_five_maps(head, height, width):
    head.eval()
    logits = head(pair_features(1, height, width))
    assert [tuple(x.shape) for x in logits] == [(1, 1, -(-height // s), -(-width // s)) for s in (16, 8, 4, 2, 1)]
    change_logits = head.predict(pair_features(1, height, width), [dict(img_shape=(height, width))], {})
    assert change_logits.shape[2:] == (height, width)


@pytest.mark.parametrize('height, width', [(250, 333), (17, 16)])
def test_detector_gives_maps_of_the_images_size(height, width):
    register_all_modules(init_default_scope=True)
    detector = MODELS.build(ConfigDict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(
            type='ifn_plugin.PairDataPreprocessor', mean=[127.] * 3, std=[60.] * 3, size_divisor=16),
        backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
        decode_head=dict(type='ifn_plugin.IFNHead'),
        test_cfg=dict(mode='whole'))).eval()
    image = torch.randint(0, 256, (6, height, width), dtype=torch.uint8)
    meta = dict(ori_shape=(height, width), img_shape=(height, width))
    output = detector.test_step(dict(inputs=[image], data_samples=[SegDataSample(metainfo=meta)]))[0]
    assert output.pred_sem_seg.data.shape == (1, height, width)
    assert set(output.pred_sem_seg.data.unique().tolist()) <= {0, 1}


def test_predict_is_the_last_level(head):
    head.eval()
    features = pair_features()
    assert torch.equal(head.predict(features, [dict(img_shape=(32, 32))], {}), head(features)[-1])


def test_losses_by_hand():
    head = IFNHead(loss_decode=[BCE, dict(DICE, loss_weight=3.)], loss_weights=(1, 2, 0.5, 4, 1))
    features, label = pair_features(), label_with_ignored()
    logits = head(features)
    losses = head.loss_by_feat(logits, samples(label))
    kept = label != 255
    target = (label == 1).float()
    for number, (logit, weight) in enumerate(zip(logits, (1, 2, 0.5, 4, 1)), 1):
        x = F.interpolate(logit, size=(32, 32), mode='bilinear', align_corners=False)[:, 0]
        bce = F.binary_cross_entropy_with_logits(x[kept], target[kept])
        torch.testing.assert_close(losses[f'level{number}.loss_ce'], weight * bce)
        p = x.sigmoid() * kept
        dice = [1 - 2 * (a * b).sum() / ((a * a).sum() + (b * b).sum() + 2e-3) for a, b in zip(p, target)]
        torch.testing.assert_close(losses[f'level{number}.loss_dice'], weight * 3 * torch.stack(dice).mean())
    right = ((logits[-1][:, 0].sigmoid() > 0.5) == (label == 1))[kept].float().mean()
    torch.testing.assert_close(losses['acc_seg'].squeeze(), 100 * right)


def test_dice_wants_the_changed_class():
    """mmseg's Dice, given (N, H, W) labels, would reward the opposite."""
    head = IFNHead(loss_decode=DICE)
    label = label_with_ignored()
    right = torch.where(label == 1, 20., -20.)[:, None]
    losses = [head.loss_by_feat([logit] * 5, samples(label))['level5.loss_dice'].item() for logit in (right, -right)]
    assert losses[0] < 0.01 < 0.9 < losses[1]


def test_an_image_without_a_label_does_not_count():
    head, label, logit = IFNHead(loss_decode=[BCE, DICE]), label_with_ignored(), torch.randn(2, 1, 32, 32)
    alone = head.loss_by_feat([logit[:1]] * 5, samples(label[:1]))
    label[1] = 255
    torch.testing.assert_close(head.loss_by_feat([logit] * 5, samples(label)), alone)


def test_loss_of_ones_own():
    class Hinge(torch.nn.Module):
        loss_name = 'loss_hinge'

        def forward(self, pred, target, ignore_index):
            assert pred.shape == (2, 1, 32, 32) and target.shape == (2, 32, 32) and ignore_index == 255
            return pred.relu().mean()

    MODELS.register_module(name='TestHinge', module=Hinge, force=True)
    logit = torch.randn(2, 1, 32, 32)
    head = IFNHead(loss_decode=dict(type='mmseg.TestHinge'))
    losses = head.loss_by_feat([logit] * 5, samples(label_with_ignored()))
    torch.testing.assert_close(losses['level1.loss_hinge'], logit.relu().mean())


@pytest.mark.parametrize('loss', [BCE, DICE])
def test_ignored_pixels_count_in_no_loss(loss):
    head = IFNHead(loss_decode=loss)
    label, logit = label_with_ignored(), torch.randn(2, 1, 32, 32)
    logit.requires_grad_()
    value = head.loss_by_feat([logit] * 5, samples(label))
    value = value[next(key for key in value if key.startswith('level5'))]
    value.backward()
    assert (logit.grad[:, 0][label == 255] == 0).all() and (logit.grad[:, 0][label != 255] != 0).any()


@pytest.mark.parametrize('loss', [BCE, DICE])
def test_nothing_labelled(loss):
    head = IFNHead(loss_decode=loss)
    losses = head.loss(pair_features(), samples(torch.full((2, 32, 32), 255)), {})
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert total == 0 and all(p.grad.isfinite().all() for p in head.parameters())


def test_two_losses_of_one_name_add_up(head):
    label, logits = label_with_ignored(), [torch.randn(2, 1, 32, 32)] * 5
    one = head.loss_by_feat(logits, samples(label))['level3.loss_ce']
    two = IFNHead(loss_decode=[BCE, BCE]).loss_by_feat(logits, samples(label))['level3.loss_ce']
    torch.testing.assert_close(two, 2 * one)


def test_accuracy_tells_a_good_map_from_an_empty_one():
    head = IFNHead(threshold=0.3)
    label = label_with_ignored()
    share = (label == 0).sum() / (label != 255).sum()

    def accuracy(logit):
        return head.loss_by_feat([logit[:, None]] * 5, samples(label))['acc_seg'].item()

    assert accuracy(torch.where(label == 1, 9., -9.)) == pytest.approx(100, abs=1e-3)
    assert accuracy(torch.full((2, 32, 32), -9.)) == pytest.approx(100 * share.item(), abs=1e-3)
    # 0.4 is above the threshold
    assert accuracy(torch.full((2, 32, 32), 0.4).logit()) == pytest.approx(100 * (1 - share.item()), abs=1e-3)


def test_level_left_out_keeps_its_layers_in_the_graph():
    head = IFNHead(loss_weights=(0, 0, 0, 0, 1))
    losses = head.loss(pair_features(), samples(label_with_ignored()), {})
    assert [key for key in losses if key.endswith('loss_ce')] == ['level5.loss_ce']
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_level_left_out_is_0_however_large_its_logits():
    head = IFNHead(loss_weights=(0, 0, 0, 0, 1))
    logits = [torch.full((1, 1, 32, 32), 60_000., dtype=torch.float16) for _ in range(5)]  # their sum is no float16
    losses = head.loss_by_feat(logits, samples(label_with_ignored(1)))
    assert losses['level1.loss_off'] == 0


def test_dropout_drops_in_training_only():
    head = IFNHead(dropout_ratio=0.6)
    features = pair_features()
    head.train()
    assert not torch.equal(head(features)[-1], head(features)[-1])
    head.eval()
    assert torch.equal(head(features)[-1], head(features)[-1])
    dropouts = [module for module in head.modules() if isinstance(module, torch.nn.Dropout)]
    assert len(dropouts) == 14 and all(module.p == 0.6 for module in dropouts)


@pytest.mark.parametrize('arguments, message', [
    (dict(in_channels=(64, 4)), r'at least 8 channels in each, but in_channels is \(64, 4\)'),
    (dict(in_channels=(64, )), 'two levels or more'),
    (dict(loss_weights=(1, 1)), 'loss_weights has 2 values'),
    (dict(loss_decode=dict(type='mmseg.CrossEntropyLoss')), 'needs use_sigmoid=True'),
    (dict(loss_decode=dict(type='mmseg.FocalLoss', use_sigmoid=True)), 'predicts one channel, which FocalLoss'),
    (dict(out_channels=2), 'predicts one channel, but out_channels is 2'),
    (dict(act_cfg=dict(type='ReLU')), "activations are the paper's, so it does not support act_cfg"),
    (dict(norm_cfg=None), r"norm_cfg is None.*dict\(type='BN'\)"),
    (dict(sampler=dict(type='mmseg.OHEMPixelSampler')), 'not support a pixel sampler'),
    (dict(loss_decode=dict(type='mmseg.TverskyLoss')), 'predicts one channel, which TverskyLoss'),
])
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        IFNHead(**arguments)


def test_momentum_of_the_running_statistics(head):
    slow = IFNHead(norm_cfg=dict(type='BN', momentum=0.01))
    slow.load_state_dict(head.state_dict())
    features = pair_features()
    for each in (head, slow):
        each.train()(features)
    means = [[layer.running_mean for layer in each.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
             for each in (head, slow)]
    assert len(means[0]) == 19 and all(mean.any() for mean in means[0])
    torch.testing.assert_close(means[1], [0.1 * mean for mean in means[0]])


@pytest.mark.parametrize('norm_cfg', [dict(type='GN', num_groups=4), dict(type='SyncBN', requires_grad=True)])
def test_other_normalizations(norm_cfg):
    """Groups of channels, the same in training and test; what open-cd's configurations have, on a CPU."""
    head = IFNHead(in_channels=(32, 64, 128), norm_cfg=norm_cfg)
    features = [torch.randn(2, c, s, s) for c, s in ((32, 16), (64, 8), (128, 4))]
    head.loss(features, samples(label_with_ignored(size=16)), {})['level3.loss_ce'].backward()
    assert all(p.grad is not None for p in head.levels[2].parameters())
    trained = head(features)[-1]
    with torch.no_grad():
        tested = head.eval()(features)[-1]
    assert torch.allclose(tested, trained, atol=1e-5) == (norm_cfg['type'] == 'GN')


def test_loss_name_that_mmengine_would_not_train_on():
    with pytest.warns(UserWarning, match='does not contain "loss"'):
        IFNHead(loss_decode=dict(BCE, loss_name='bce'))


@pytest.mark.parametrize('decode_head', [
    dict(type='mmseg.FCNHead', in_channels=1024, in_index=4, channels=16, num_convs=1),
    dict(type='mmseg.UPerHead', in_channels=[128, 256, 512, 1024, 1024], in_index=[0, 1, 2, 3, 4], channels=16),
])
def test_heads_of_mmseg_stand_on_the_encoder(decode_head):
    register_all_modules(init_default_scope=True)
    head = MODELS.build(dict(
        decode_head, num_classes=2, out_channels=1, threshold=0.5, loss_decode=BCE, norm_cfg=dict(type='BN')))
    losses = head.loss(IFN(init_cfg=None)(torch.randn(2, 6, 64, 64)), samples(label_with_ignored(size=64)), {})
    losses['loss_ce'].backward()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize('n, height, width', [(1, 4, 4), (1, 16, 12), (1, 15, 12), (1, 16, 11), (3, 16, 16)])
def test_a_level_is_its_layers_one_after_the_other(n, height, width):
    """Training, one image larger than the kernels, of even and odd sizes, and other images take a way of their own."""
    torch.manual_seed(0)
    level = DecoderLevel(16, 24, (8, 4), 0., dict(type='BN')).double().eval()
    coarse = torch.randn(n, 16, -(-height // 2), -(-width // 2), dtype=torch.float64)
    pair = torch.randn(n, 24, height, width, dtype=torch.float64)
    x = level.channel_attention(torch.cat((level.upsample(coarse)[..., :height, :width], pair), dim=1))
    for block in level.blocks:
        x = block(x)
    x = level.norm(level.spatial_attention(x))
    before = coarse.clone(), pair.clone()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(level(pair, coarse), (x, level.logit(x)), rtol=0, atol=1e-12)
    assert torch.equal(coarse, before[0]) and torch.equal(pair, before[1])


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_compiled_gradients(dtype, tolerance):
    """Compilers err in what nobody sees in the loss: compare every gradient, in bfloat16 beyond the error it has."""
    torch.manual_seed(0)
    level = DecoderLevel(8, 16, (8, 4), 0., dict(type='BN'))
    pair, coarse = torch.randn(2, 16, 16, 16), torch.randn(2, 8, 8, 8, requires_grad=True)
    weights = torch.randn(2, 5, 16, 16)
    leaves = [coarse, *level.parameters()]

    def gradients(forward, dtype=torch.float32):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            features, logit = forward(pair, coarse)
        return torch.autograd.grad((torch.cat((features, logit), dim=1) * weights).sum(), leaves)

    exact, eager = gradients(level.forward), gradients(level.forward, dtype)
    compiled = gradients(torch.compile(level.forward), dtype)
    names = ['coarse', *(name for name, _ in level.named_parameters())]
    for name, a, b, c in zip(names, exact, eager, compiled, strict=True):
        assert (c - a).norm() <= tolerance * a.norm() + 3 * (b - a).norm(), name


def kept_bytes(head, features, label):
    """The losses, and the size of what the forward pass keeps for the backward pass."""
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        losses = head.loss(features, samples(label), {})
    return losses, sum(kept.values())


def test_activation_checkpointing_lets_losses_go_back_one_by_one():
    features, label = pair_features(height=32, width=32), label_with_ignored(size=32)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        head = IFNHead(with_cp=with_cp)
        losses = [loss for name, loss in head.loss(features, samples(label), {}).items() if 'loss' in name]
        for loss in losses:
            loss.backward(retain_graph=True)
        gradients.append([*(p.grad for p in head.parameters()), *head.buffers()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def test_activation_checkpointing_is_exact_and_keeps_less():
    label, features = label_with_ignored(size=64), pair_features(height=64, width=64)
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        head = IFNHead(with_cp=with_cp, dropout_ratio=0.1)
        losses, kept = kept_bytes(head, features, label)
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        results.append((losses, kept, {name: p.grad for name, p in head.named_parameters()}, head.state_dict()))
    (losses, kept, gradients, state), (losses_cp, kept_cp, gradients_cp, state_cp) = results
    torch.testing.assert_close(losses_cp, losses, rtol=0, atol=0)
    torch.testing.assert_close(gradients_cp, gradients, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state_cp, state, rtol=0, atol=0)  # running statistics too
    assert kept_cp < 0.5 * kept


@pytest.mark.parametrize('ignore_index', [255, -1, 256])
def test_label_brought_down_to_each_level(ignore_index):
    torch.manual_seed(0)
    head = IFNHead(downsample_label=True, ignore_index=ignore_index)
    logits = [torch.randn(2, 1, side, side + 1) for side in (2, 4, 8, 16, 32)]
    label = torch.randint(0, 2, (2, 1, 32, 33))
    label[:, :, :5] = ignore_index
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in label]
    losses = head.loss_by_feat(logits, samples)
    for number, logit in enumerate(logits, 1):
        height, width = logit.shape[2:]
        # the pixel whose upper left corner a pixel of the level has
        rows, columns = torch.arange(height) * 32 // height, torch.arange(width) * 33 // width
        small = label[:, 0][:, rows][:, :, columns]
        counted = small != ignore_index
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            logit[:, 0][counted], small[counted].float())
        torch.testing.assert_close(losses[f'level{number}.loss_ce'], expected)
    # the finest level is as it is without it
    assert losses['level5.loss_ce'] == pytest.approx(float(IFNHead(ignore_index=ignore_index).loss_by_feat(
        [torch.zeros(2, 1, 1, 1)] * 4 + [logits[4]], samples)['level5.loss_ce']))
