"""Freezing of an encoder, or of its first groups."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from ifn_plugin.models import IFN, IFNHead, PairDataPreprocessor, PairEncoder

RESNET = dict(type='mmseg.ResNetV1c', depth=18, base_channels=8, norm_cfg=dict(type='BN'))
SWIN = dict(type='mmseg.SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.parametrize('frozen', [2, 0, 1, 'no', None])
@pytest.mark.parametrize('build', [lambda **settings: IFN(init_cfg=None, **settings),
                                   lambda **settings: PairEncoder(RESNET, **settings)], ids=['IFN', 'PairEncoder'])
def test_frozen_is_true_or_false(build, frozen):
    with pytest.raises(ValueError, match=rf'\(frozen={frozen!r}\): frozen must be True or False\. Fix: .*stages'):
        build(frozen=frozen)


@pytest.mark.parametrize('settings, message', [
    (dict(frozen_stages=2), 'frozen=True freezes all stages, but frozen_stages=2 only the first ones. Fix: frozen=Fal'),
    (dict(frozen=False, frozen_stages=6), 'frozen_stages=6 is invalid. Fix: a number from -1, for none, to 5'),
    (dict(frozen=False, frozen_stages=True), 'frozen_stages=True is invalid'),
    (dict(frozen=False, frozen_stages='2'), "frozen_stages='2' is invalid"),
])
def test_stages_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IFN(init_cfg=None, **settings)


@pytest.mark.parametrize('stages, convolutions', [(-1, 0), (0, 0), (1, 2), (2, 4), (3, 7), (5, 13)])
def test_the_first_groups_are_frozen_and_the_others_learn(stages, convolutions):
    encoder = IFN(init_cfg=None, frozen=False, frozen_stages=stages).train()
    maps = encoder(torch.randn(1, 6, 32, 32))
    assert [x.requires_grad for x in maps] == [group >= stages for group in range(5)]
    if stages < 5:
        sum(x.sum() for x in maps).backward()
    gradients = [parameter.grad is not None for parameter in encoder.parameters()]
    assert gradients == [False] * 2 * convolutions + [True] * 2 * (13 - convolutions)
    assert encoder.training
    assert [layer.training for layer in encoder.features] == [
        index > [-1, *encoder.taps][max(stages, 0)] for index in range(len(encoder.features))]


def test_frozen_stages_do_not_change_the_maps():
    torch.manual_seed(0)
    trained = IFN(init_cfg=None, frozen=False)
    partly = IFN(init_cfg=None, frozen=False, frozen_stages=2)
    partly.load_state_dict(trained.state_dict())
    pair = torch.randn(1, 6, 33, 32)
    assert all(torch.equal(one, other) for one, other in zip(trained(pair), partly(pair)))


def test_frozen_stages_stay_out_of_the_optimizer():
    encoder = IFN(init_cfg=None, frozen=False, frozen_stages=3)
    wrapper = build_optim_wrapper(encoder, ConfigDict(
        optimizer=dict(type='SGD', lr=0.1), constructor='ifn_plugin.TrainableOptimWrapperConstructor'))
    assert sum(len(group['params']) for group in wrapper.optimizer.param_groups) == 12


@pytest.mark.parametrize('backbone, first', [
    (dict(RESNET, frozen_stages=1), ('stem', 'layer1')),
    (dict(SWIN, frozen_stages=1), ('patch_embed', 'stages.0.', 'norm0')),
], ids=['resnet', 'swin'])
def test_frozen_stages_of_a_backbone(backbone, first):
    """Running statistics of normalizations included, whatever the detector's training mode."""
    encoder = PairEncoder(backbone).eval().train()
    head = IFNHead(in_channels=(16, 32, 64, 128))
    before = {name: value.clone() for name, value in encoder.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([x for x in encoder.parameters() if x.requires_grad], lr=1.)
    sum(logit.square().sum() for logit in head(encoder(torch.randn(2, 6, 64, 64)))).backward()
    optimizer.step()
    for name, parameter in encoder.encoder.named_parameters():
        assert (parameter.grad is None) == name.startswith(first), name
    changed = [name for name, value in encoder.encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and not any(name.startswith(first) for name in changed)


@pytest.mark.parametrize('build, message', [
    (lambda: IFNHead(with_cp=2), 'with_cp=2 is not a Boolean'),
    (lambda: IFNHead(downsample_label='no'), "downsample_label='no' is not a Boolean"),
    (lambda: PairDataPreprocessor([0.], [1.], bgr_to_rgb='False'), "bgr_to_rgb='False' is not a Boolean. Fix: bgr_"),
    (lambda: IFNHead(threshold=50), 'threshold=50 is out of range. Fix: a number from 0 to 1'),
    (lambda: IFNHead(dropout_ratio=-0.1), 'dropout_ratio=-0.1 is out of range. Fix: a number from 0 to 1'),
])
def test_switches_and_shares_are_checked(build, message):
    with pytest.raises(ValueError, match=message):
        build()
