"""U-Net's decoder on IFN's encoder."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from ifn_plugin.models.decode_heads import UNetHead
from ifn_plugin.utils.configurations import find_config

BCE = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True)
MODEL = find_config('ifn_demo.py').parents[1] / '_base_' / 'models' / 'unet_vgg16.py'


def sample(label):
    return SegDataSample(gt_sem_seg=PixelData(data=label[None]))


@pytest.fixture
def detector():
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(Config.fromfile(MODEL).model)


def test_each_level_halves_the_channels():
    head = UNetHead(num_classes=2, out_channels=1, loss_decode=BCE)
    shapes = [tuple(layer.weight.shape[:2]) for layer in head.blocks.modules() if isinstance(layer, nn.Conv2d)]
    assert shapes == [(512, 2048), (512, 512), (256, 1024), (256, 256), (128, 512), (128, 128), (64, 256), (64, 64)]
    # 3×3 convolutions without bias, each with a batch normalization, and the classifier's 64 weights and bias
    assert sum(p.numel() for p in head.parameters()) == sum(9 * a * b + 2 * a for a, b in shapes) + 65


def test_decoder_learns_and_the_frozen_encoder_stays(detector):
    images = torch.randn(2, 6, 32, 48)
    label = torch.zeros(2, 32, 48, dtype=torch.long)
    label[:, 8:24, 8:32] = 1
    label[:, :4] = 255
    images[:, 3:, 8:24, 8:32] += 3
    encoder = [p.clone() for p in detector.backbone.parameters()]
    optimizer = torch.optim.Adam(detector.decode_head.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = detector.loss(images, [sample(x) for x in label])['decode.loss_ce']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.any() for p in detector.decode_head.blocks.parameters())
    assert all(p.grad is None and p.equal(old) for p, old in zip(detector.backbone.parameters(), encoder))


def test_accuracy_is_that_of_the_map_and_nothing_labelled_is_no_loss(detector):
    label = torch.full((2, 32, 32), 255)
    label[0, :16] = 0
    label[0, :4] = 1
    logit = torch.randn(2, 1, 32, 32, requires_grad=True)
    losses = detector.decode_head.loss_by_feat(logit, [sample(x) for x in label])
    counted, wanted = logit[0, 0, :16] > 0, label[0, :16] == 1
    assert losses['acc_seg'].item() == pytest.approx(100 * (counted == wanted).float().mean().item())
    losses = detector.decode_head.loss_by_feat(logit, [sample(torch.full((32, 32), 255)) for _ in range(2)])
    losses['loss_ce'].backward()
    assert losses['loss_ce'] == 0 and not logit.grad.any()


def test_two_channels_are_left_to_mmseg(detector):
    head = UNetHead(num_classes=2)
    losses = head.loss_by_feat(torch.randn(1, 2, 8, 8), [sample(torch.ones(8, 8, dtype=torch.long))])
    assert losses['loss_ce'].isfinite()


@pytest.mark.parametrize('height, width', [(64, 48), (33, 50), (16, 17)])
def test_any_size_gives_a_map_of_that_size(detector, height, width):
    detector.eval()
    with torch.no_grad():
        assert detector.encode_decode(torch.randn(1, 6, height, width), [dict(img_shape=(height, width))]).shape == (
            1, 1, height, width)


def test_maps_that_are_no_pyramid_are_refused():
    head = UNetHead(in_channels=(16, 32), num_classes=2, out_channels=1, loss_decode=BCE)
    with pytest.raises(ValueError, match='UNetHead needs 2 maps, but gets 1'):
        head([torch.zeros(1, 16, 8, 8)])
    with pytest.raises(ValueError, match=r'UNetHead needs maps .*each half as high and wide'):
        head([torch.zeros(1, 16, 8, 8), torch.zeros(1, 32, 8, 8)])
    with pytest.raises(ValueError, match=r"UNetHead's in_channels is \(16, 32\)"):
        head([torch.zeros(1, 16, 8, 8), torch.zeros(1, 16, 4, 4)])
