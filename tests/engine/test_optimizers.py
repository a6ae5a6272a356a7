import pytest
import torch
from mmengine.optim import LinearLR, OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ifn_plugin.engine import TrainableOptimWrapperConstructor


class Net(nn.Module):

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def frozen_net() -> Net:
    net = Net()
    net.backbone.requires_grad_(False)
    return net


def build(net: nn.Module, paramwise_cfg: dict | None = None, optimizer: str = 'AdamW') -> OptimWrapper:
    cfg = dict(
        type='OptimWrapper',
        constructor='ifn_plugin.TrainableOptimWrapperConstructor',
        optimizer=dict(type=optimizer, lr=0.1, weight_decay=0.05))
    if paramwise_cfg is not None:
        cfg['paramwise_cfg'] = paramwise_cfg
    return build_optim_wrapper(net, cfg)


def optimized(wrapper: OptimWrapper) -> list[int]:
    return [id(parameter) for group in wrapper.optimizer.param_groups for parameter in group['params']]


PARAMWISE = [
    None,
    dict(norm_decay_mult=0.),
    dict(custom_keys={'backbone': dict(lr_mult=0.1), 'head.0': dict(lr_mult=0.5)}),
]


@pytest.mark.parametrize('paramwise_cfg', PARAMWISE)
@pytest.mark.parametrize('optimizer', ['AdamW', 'SGD'])
def test_frozen_parameters_are_left_out(paramwise_cfg, optimizer):
    net = frozen_net()
    wrapper = build(net, paramwise_cfg, optimizer)
    assert sorted(optimized(wrapper)) == sorted(map(id, net.head.parameters()))


@pytest.mark.parametrize('paramwise_cfg', PARAMWISE)
def test_everything_trainable_stays(paramwise_cfg):
    net = Net()
    assert sorted(optimized(build(net, paramwise_cfg))) == sorted(map(id, net.parameters()))


def test_settings_of_the_groups_stay_with_their_parameters():
    net = frozen_net()
    wrapper = build(net, dict(norm_decay_mult=0., custom_keys={'head.0': dict(lr_mult=0.5)}))
    settings = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups for parameter in group['params']
    }
    assert settings[id(net.head[0].weight)] == (0.05, 0.05)
    assert settings[id(net.head[1].weight)] == (0.1, 0.)
    assert settings[id(net.head[2].weight)] == (0.1, 0.05)


def test_step_trains_the_rest_and_stores_no_state_of_the_frozen():
    net = frozen_net()
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    wrapper = build(net)
    wrapper.update_params(net(torch.rand(2, 3, 8, 8)).square().mean())
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith('backbone'), name
    state = wrapper.state_dict()
    assert len(state['state']) == sum(len(group['params']) for group in state['param_groups']) == 6


def test_schedulers_and_state_work_on_what_is_left():
    net = frozen_net()
    wrapper = build(net, dict(custom_keys={'head.0': dict(lr_mult=0.5)}))
    scheduler = LinearLR(wrapper, start_factor=0.1, by_epoch=False, begin=0, end=10)
    wrapper.update_params(net(torch.rand(2, 3, 8, 8)).square().mean())
    assert {round(lr, 6) for lr in wrapper.get_lr()['lr']} == {0.01, 0.005}
    for _ in range(9):
        scheduler.step()
    assert {round(lr, 6) for lr in wrapper.get_lr()['lr']} == {0.1, 0.05}
    resumed = build(frozen_net(), dict(custom_keys={'head.0': dict(lr_mult=0.5)}))
    resumed.load_state_dict(wrapper.state_dict())
    assert resumed.get_lr() == wrapper.get_lr()


@OPTIM_WRAPPERS.register_module()
class AmpLike(OptimWrapper):
    pass


def test_constructor_builds_the_wrapper_that_is_asked_for():
    cfg = dict(type='AmpLike', optimizer=dict(type='SGD', lr=0.1))
    wrapper = TrainableOptimWrapperConstructor(cfg)(frozen_net())
    assert isinstance(wrapper, AmpLike)


def test_nothing_to_train_is_refused():
    net = frozen_net().requires_grad_(False)
    with pytest.raises(ValueError, match='nothing to train'):
        build(net)


def test_adagrad_whose_state_is_made_with_it_can_be_saved():
    wrapper = build(frozen_net(), optimizer='Adagrad')
    assert len(wrapper.state_dict()['state']) == len(optimized(wrapper))
