"""Any backbone of mmseg under IFN's head."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from ifn_plugin.models import IFN, IFNHead, PairEncoder
from ifn_plugin.models.decode_heads.ifn_head import block_widths

RESNET = dict(type='mmseg.ResNetV1c', depth=18, norm_cfg=dict(type='BN'))
SWIN = dict(type='mmseg.SwinTransformer', embed_dims=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)
CHANNELS = {'ResNetV1c': (64, 128, 256, 512), 'SwinTransformer': (24, 48, 96, 192)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def channels(backbone):
    return [2 * number for number in CHANNELS[backbone['type'].split('.')[1]]]


@pytest.mark.parametrize('backbone', [RESNET, SWIN], ids=['resnet', 'swin'])
@pytest.mark.parametrize('size', [(64, 96), (67, 93)])
def test_maps_of_both_dates_side_by_side(backbone, size):
    encoder = PairEncoder(backbone).eval()
    dates = torch.randn(2, 3, 3, *size)
    with torch.no_grad():
        pair = encoder(*dates)
        assert all(torch.equal(one, other) for one, other in zip(pair, encoder(torch.cat(tuple(dates), dim=1))))
        alone = [encoder.encoder(date) for date in dates]
    assert [x.shape[1] for x in pair] == channels(backbone)
    for both, first, second in zip(pair, *alone):
        torch.testing.assert_close(both, torch.cat((first, second), dim=1))
    for level, x in enumerate(pair):
        assert x.shape[2:] == tuple(-(-side // 2**(level + 2)) for side in size)


class RoundsDown(nn.ModuleList):
    """A pyramid whose steps leave out an odd last row and column, as mmpretrain's VGG and ConvNeXt do."""

    def __init__(self):
        super().__init__([nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 2, 2), nn.Conv2d(16, 16, 2, 2)])

    def forward(self, x):
        maps = []
        for layer in self:
            x = layer(x)
            maps.append(x)
        return maps


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('size', [(80, 84), (71, 93)])
def test_an_encoder_that_rounds_down(monkeypatch, n, size):
    monkeypatch.setitem(MODELS.module_dict, 'RoundsDown', RoundsDown)
    encoder = PairEncoder(dict(type='RoundsDown'))
    maps, head = encoder(torch.randn(n, 6, *size)), IFNHead(in_channels=(32, 32, 32)).eval()
    kept = head(maps)
    assert [x.shape[2:] for x in kept] == [x.shape[2:] for x in reversed(maps)]
    with torch.no_grad():
        torch.testing.assert_close(head(maps), kept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('frozen', [False, True])
def test_frozen_or_trained(frozen):
    encoder = PairEncoder(RESNET, frozen=frozen).train()
    head = IFNHead(in_channels=channels(RESNET))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    sum(logit.sum() for logit in head(encoder(torch.randn(2, 6, 64, 64)))).backward()
    assert all((parameter.grad is None) == frozen for parameter in encoder.parameters())
    # running statistics of normalizations too
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items()) == frozen
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize('backbone', [RESNET, SWIN], ids=['resnet', 'swin'])
def test_a_detector_learns_and_predicts_at_the_images_size(backbone):
    model = MODELS.build(ConfigDict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3,
                               size_divisor=32, test_cfg=dict(size_divisor=32)),
        backbone=dict(type='ifn_plugin.PairEncoder', backbone=backbone),
        decode_head=dict(type='ifn_plugin.IFNHead', in_channels=channels(backbone)),
        train_cfg=dict(), test_cfg=dict(mode='whole')))
    images = torch.randint(0, 256, (2, 6, 67, 93), dtype=torch.uint8)
    # the left half of the second date, which is bright, is changed
    labels = torch.zeros(2, 1, 67, 93, dtype=torch.int64)
    images[:, 3:, :, :46] = 250
    labels[..., :46] = 1
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(ori_shape=(67, 93), img_shape=(67, 93)))
               for label in labels]
    wrapper = build_optim_wrapper(model, ConfigDict(optimizer=dict(type='AdamW', lr=1e-3)))
    losses = [model.train_step(dict(inputs=list(images), data_samples=[sample.clone() for sample in samples]), wrapper)
              for _ in range(8)]
    assert sum('level' in name for name in losses[0]) == 4
    assert losses[-1]['loss'] < 0.95 * losses[0]['loss']
    model.eval()
    for sample in model.test_step(dict(inputs=list(images), data_samples=samples)):
        assert sample.pred_sem_seg.data.shape == (1, 67, 93)
        assert torch.isfinite(sample.seg_logits.data).all()


def test_the_decoder_of_ifn_is_the_papers():
    assert block_widths((128, 256, 512, 1024, 1024)) == [
        (512, 512), (512, 256, 256), (256, 128, 128), (128, 64, 64), (64, 32, 16)]
    # no wider for ResNet-50, whose maps are
    assert block_widths((512, 1024, 2048, 4096)) == [(512, 512), (512, 256, 256), (512, 256, 256), (256, 128, 64)]


class Vgg(nn.Module):

    def __init__(self, ifn):
        super().__init__()
        self.ifn = ifn

    def forward(self, x):
        maps = []
        for index, layer in enumerate(self.ifn.features):
            x = layer(x)
            maps += [x] if index in self.ifn.taps else []
        return maps


def test_ifn_is_a_special_case():
    ifn = IFN(init_cfg=None).eval()
    encoder = PairEncoder(RESNET)
    encoder.encoder = Vgg(ifn)
    pair = torch.randn(2, 6, 33, 47)
    assert all(torch.equal(one, other) for one, other in zip(ifn(pair), encoder(pair)))


def test_other_numbers_of_channels():
    encoder = PairEncoder(dict(RESNET, in_channels=4), in_channels=4)
    assert encoder(torch.randn(1, 8, 64, 64))[0].shape == (1, 128, 16, 16)
    with pytest.raises(ValueError, match=r'PairEncoder\(in_channels=4\) needs 4 channels for each date, so 8'):
        encoder(torch.randn(1, 6, 64, 64))
