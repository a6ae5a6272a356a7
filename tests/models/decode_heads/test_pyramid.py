"""Maps that are a pyramid, those that a neck makes one, and those that are none."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from ifn_plugin.engine import accelerate, acceleration
from ifn_plugin.models import IFNHead, PairEncoder

BN = dict(type='BN')
TRANSFORMER = dict(img_size=64, patch_size=16, embed_dims=16, num_layers=4, num_heads=2)
VIT = dict(type='mmseg.VisionTransformer', out_indices=(0, 1, 2, 3), **TRANSFORMER)
UNET = dict(type='mmseg.UNet', base_channels=8, norm_cfg=BN)
NOT_HALVING = dict(
    resnet_d8=dict(type='mmseg.ResNetV1c', depth=18, base_channels=8, norm_cfg=BN, dilations=(1, 1, 2, 4),
                   strides=(1, 2, 1, 1)),
    vit=VIT,
    beit=dict(type='mmseg.BEiT', out_indices=(1, 3), **TRANSFORMER),
    mae=dict(type='mmseg.MAE', out_indices=(1, 3), **TRANSFORMER),
    fast_scnn=dict(type='mmseg.FastSCNN', norm_cfg=BN))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield
    torch.compiler.reset()


class Gives(nn.Module):
    """A backbone that gives what it is told to."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, x):
        return self.maps


def encoder_that_gives(maps):
    encoder = PairEncoder(dict(type='mmseg.FastSCNN', norm_cfg=BN))
    encoder.encoder = Gives(maps)
    return encoder


def decode(encoder, in_channels=None, **settings):
    with torch.no_grad():
        maps = encoder.eval()(torch.randn(1, 6, 64, 64))
        return IFNHead(in_channels=in_channels or [x.shape[1] for x in maps], **settings).eval()(maps)


@pytest.mark.parametrize('name', NOT_HALVING)
def test_maps_that_do_not_halve_are_refused(name):
    with pytest.raises(ValueError, match=r'each half as high and wide.*Fix: .*strides.*neck.*Feature2Pyramid'):
        decode(PairEncoder(NOT_HALVING[name]))


def test_maps_from_coarse_to_fine_are_refused_and_taken_in_order():
    encoder = PairEncoder(UNET)
    with pytest.raises(ValueError, match=r'coarse to fine.*decode_head\.in_index=\[4, 3, 2, 1, 0\]'):
        decode(encoder)
    logits = decode(encoder, in_channels=(16, 32, 64, 128, 256), in_index=[4, 3, 2, 1, 0])
    assert [x.shape[3] for x in logits] == [4, 8, 16, 32, 64]


def test_channels_that_come_last_are_refused():
    with pytest.raises(ValueError, match=r'channels come last.*SwinTransformer'):
        decode(encoder_that_gives([torch.zeros(2, 16, 16, 8), torch.zeros(2, 8, 8, 16)]))


@pytest.mark.parametrize('maps, message', [
    ([torch.zeros(2, 17, 16)], r'Gives returns a tensor of \(2, 17, 16\), but maps \(N, C, H, W\)'),
    ([[torch.zeros(2, 16, 4, 4), torch.zeros(2, 16)]], 'Gives returns a list, but maps'),
])
def test_tokens_are_refused(maps, message):
    with pytest.raises(ValueError, match=message):
        encoder_that_gives(maps)(torch.zeros(1, 6, 64, 64))


@pytest.mark.parametrize('maps', [[torch.zeros(2, 16, 4, 4)], torch.zeros(2, 16, 4, 4)], ids=['list', 'tensor'])
def test_one_map_is_no_pyramid(maps):
    with pytest.raises(ValueError, match=r"IFNHead needs 2 maps, but gets 1\. Fix: set the backbone's out_indices"):
        decode(encoder_that_gives(maps), in_channels=(32, 32))


def test_other_channels_than_the_maps_have_are_refused():
    encoder = encoder_that_gives([torch.zeros(2, 16, 16, 16), torch.zeros(2, 32, 8, 8)])
    with pytest.raises(ValueError, match=r'in_channels is \(16, 32\), but .* Fix: in_channels=\(32, 64\)'):
        decode(encoder, in_channels=(16, 32))


def test_the_check_is_compiled_into_one_graph():
    head = IFNHead(in_channels=(16, 16)).eval()
    halving, equal = ([torch.zeros(1, 16, 8, 8), torch.zeros(1, 16, side, side)] for side in (4, 8))
    for dynamic in (False, True):
        torch.compile(head.forward, fullgraph=True, dynamic=dynamic, backend='eager')(halving)
    with pytest.raises(ValueError, match='each half as high'):
        torch.compile(head.forward, backend='eager')(equal)


def detector(backbone, neck, in_channels):
    return MODELS.build(ConfigDict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3,
                               size_divisor=32, test_cfg=dict(size_divisor=32)),
        backbone=dict(type='ifn_plugin.PairEncoder', backbone=backbone),
        neck=neck,
        decode_head=dict(type='ifn_plugin.IFNHead', in_channels=in_channels),
        train_cfg=dict(), test_cfg=dict(mode='whole')))


@pytest.mark.parametrize('backbone, neck', [
    (VIT, dict(type='mmseg.Feature2Pyramid', embed_dim=32, norm_cfg=BN)),
    (VIT, dict(type='mmseg.MultiLevelNeck', in_channels=[32] * 4, out_channels=32, scales=[4, 2, 1, 0.5])),
    (dict(VIT, out_indices=-1),
     dict(type='mmseg.MultiLevelNeck', in_channels=[32], out_channels=32, scales=[4, 2, 1, 0.5])),
], ids=['Feature2Pyramid', 'MultiLevelNeck', 'MultiLevelNeck of one map'])
def test_a_neck_makes_a_pyramid_of_a_vision_transformer(backbone, neck):
    model = detector(backbone, neck, in_channels=(32, 32, 32, 32))
    data = dict(inputs=[torch.randint(0, 256, (6, 33, 50), dtype=torch.uint8)],
                data_samples=[SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 2, (1, 33, 50))),
                                            metainfo=dict(ori_shape=(33, 50), img_shape=(33, 50)))])
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(parameter.grad.any() for parameter in model.neck.parameters())
    model.eval()
    assert model.test_step(data)[0].pred_sem_seg.data.shape == (1, 33, 50)
    # all of the coarsest map reaches the result
    maps = [x.detach() for x in model.extract_feat(torch.randn(1, 6, 64, 96))]
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    maps[-1].requires_grad_()
    model.decode_head(maps)[-1].square().sum().backward()
    assert (maps[-1].grad.abs().sum(1) > 0).all()


def test_an_accelerated_detector_refuses_them_too(monkeypatch):
    # its trial needs the system's compiler, which the backend 'eager' does without
    monkeypatch.setattr(acceleration, '_compiler_works', lambda device: True)
    model = detector(NOT_HALVING['resnet_d8'], None, in_channels=(16, 32, 64, 128)).eval()
    accelerate(model, dtype='float32', compile=dict(backend='eager'), keep_memory=False)
    with torch.no_grad(), pytest.raises(ValueError, match='each half as high'):
        model.predict(torch.randn(1, 6, 64, 64))
