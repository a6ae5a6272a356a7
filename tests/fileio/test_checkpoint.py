import time

import hostile
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.fileio.checkpoint import get_state_dict
from ifn_plugin.models import IFN, IFNHead
from ifn_plugin.models.conversion import convert_state_dict


def detector():
    return torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead()))


def test_what_mmengine_writes_is_read_safely(tmp_path):
    hub = MessageHub('name')
    for step in range(3):
        hub.update_scalar('train/loss', 1. / (step + 1))
        hub.update_scalar('train/lr', np.float64(0.1))
    hub.update_info('iter', np.int64(3))
    hub.update_info('best', np.array([1.5, 2.5], np.float32))
    hub.update_info('empty', np.array([], np.int32))
    torch.save(dict(state_dict=dict(a=torch.ones(2)), message_hub=hub.state_dict()), tmp_path / 'checkpoint.pth')
    content = load_checkpoint_file(tmp_path / 'checkpoint.pth')
    log = content['message_hub']['log_scalars']['train/loss']
    assert isinstance(log, HistoryBuffer)
    assert content['message_hub']['runtime_info']['best'].tolist() == [1.5, 2.5]
    assert content['message_hub']['runtime_info']['empty'].tolist() == []
    assert content['message_hub']['runtime_info']['iter'] == 3
    assert log.statistics('mean', 3) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3) and log.current() == pytest.approx(1 / 3)


SCHEDULES = dict(
    ConstantLR={}, CosineAnnealingLR=dict(T_max=4), ExponentialLR=dict(gamma=0.9), LinearLR={},
    MultiStepLR=dict(milestones=[1, 2]), StepLR=dict(step_size=2), PolyLR={},
    OneCycleLR=dict(eta_max=0.1, total_steps=9), CosineRestartLR=dict(periods=[2, 7], restart_weights=[1, 1],
                                                                      eta_min=0.),
    ReduceOnPlateauLR=dict(monitor='loss'))


@pytest.mark.parametrize('name', [key for key in PARAM_SCHEDULERS.module_dict if key.endswith('LR')])
def test_every_schedule_of_mmengine_continues_from_a_checkpoint(tmp_path, name):
    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        return PARAM_SCHEDULERS.build(dict(type=name, optimizer=optimizer, **SCHEDULES[name])), optimizer

    def step(schedule):
        # some of them look at a metric
        schedule.step(dict(loss=1.)) if 'Plateau' in name else schedule.step()

    (uninterrupted, optimizer), (resumed, other) = make(), make()
    for _ in range(3):
        step(uninterrupted)
    torch.save(dict(param_schedulers=[uninterrupted.state_dict()]), tmp_path / 'checkpoint.pth')
    resumed.load_state_dict(load_checkpoint_file(tmp_path / 'checkpoint.pth')['param_schedulers'][0])
    other.load_state_dict(optimizer.state_dict())
    for _ in range(4):
        step(uninterrupted)
        step(resumed)
        assert other.param_groups[0]['lr'] == pytest.approx(optimizer.param_groups[0]['lr'])


@pytest.mark.parametrize('join', [list, tuple, lambda pair: dict(enumerate(pair))])
def test_what_a_file_names_often_is_read_once(tmp_path, join):
    content = log = HistoryBuffer([1., 2.], [1, 1])
    for _ in range(60):
        content = join((content, content))
    torch.save(dict(content=content), tmp_path / 'checkpoint.pth')
    begin = time.monotonic()
    loaded = load_checkpoint_file(tmp_path / 'checkpoint.pth')['content']
    assert time.monotonic() - begin < 5
    for _ in range(60):
        assert loaded[0] is loaded[1]
        loaded = loaded[0]
    assert loaded.statistics('mean') == log.statistics('mean')


@pytest.mark.parametrize('content', [
    hostile.Call(getattr, OneCycleParamScheduler, 'step'), hostile.Call(getattr, OneCycleParamScheduler, '__init__'),
    hostile.Call(OneCycleParamScheduler), hostile.Call(OneCycleParamScheduler, state=dict(optimizer=1)),
    hostile.Call(OneCycleParamScheduler._annealing_cos, 0., 1., 0.5),
])
def test_nothing_of_a_schedule_but_its_curve(tmp_path, content):
    torch.save(dict(param_schedulers=[dict(anneal_func=content)]), tmp_path / 'checkpoint.pth')
    with pytest.raises(ValueError, match='not a checkpoint that can be read safely'):
        load_checkpoint_file(tmp_path / 'checkpoint.pth')


@pytest.mark.parametrize('content, message', [(b'', 'not a checkpoint'), (b'no checkpoint', 'not a checkpoint'),
                                              (b'PK\x03\x04', 'not a checkpoint'),
                                              (b'', '.*: it is empty'), (b'\n<!DOCTYPE html>', '.*: it is a web page'),
                                              (b'version https://git-lfs.github.com/spec/v1', '.*: .* Git LFS')])
def test_damaged_files_are_refused(tmp_path, content, message):
    (tmp_path / 'bad.pth').write_bytes(content)
    with pytest.raises(ValueError, match=rf'bad\.pth is {message}'):
        load_checkpoint_file(tmp_path / 'bad.pth')


@pytest.mark.parametrize('content', [b'<html>Not here</html>', None])
def test_a_damaged_download_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    path = tmp_path / 'hub' / 'checkpoints' / 'weights.pth'
    path.parent.mkdir(parents=True)
    path.write_bytes(content) if content else torch.save([1, 2], path)
    with pytest.raises(ValueError, match=rf'https://\S*/weights\.pth .* remove the downloaded file {path} to'):
        load_checkpoint_file('https://example.com/models/weights.pth')


def test_a_truncated_file_is_refused(tmp_path):
    torch.save(dict(a=torch.randn(1000)), tmp_path / 'complete.pth')
    content = (tmp_path / 'complete.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match=r'cut\.pth is not a checkpoint'):
        load_checkpoint_file(tmp_path / 'cut.pth')


def test_a_file_without_a_dictionary_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match=r'list\.pth holds a list'):
        load_checkpoint_file(tmp_path / 'list.pth')


def test_the_plugins_own_keys_stay_as_they_are():
    state_dict = detector().state_dict()
    converted = convert_state_dict(dict(state_dict=state_dict, meta={}))
    assert converted.keys() == state_dict.keys()
    assert all(torch.equal(converted[key], state_dict[key]) for key in state_dict)
    wrapped = {f'module.{key}': value for key, value in state_dict.items()}
    assert convert_state_dict(wrapped).keys() == state_dict.keys()
    assert get_state_dict(wrapped).keys() == state_dict.keys()


@pytest.mark.parametrize('change, message', [
    (lambda s: s.pop('decode_head.levels.2.norm.weight'), r'decode_head\.levels\.2\.norm\.weight is missing'),
    (lambda s: s.update({'decode_head.levels.7.norm.weight': torch.zeros(1)}), r'levels\.7\.norm\.weight is unknown'),
    (lambda s: s.update({'backbone.conv1.weight': torch.zeros(1)}), r'backbone\.conv1\.weight is unknown'),
    (dict.clear, r'backbone\.features\.0\.weight is missing.* and \d+ more'),
])
def test_weights_of_something_else_are_refused(change, message):
    state_dict = dict(detector().state_dict())
    change(state_dict)
    with pytest.raises(ValueError, match=message):
        convert_state_dict(state_dict)


def test_two_encoders_that_differ_are_refused():
    state_dict = {'t1_base.features.0.bias': torch.zeros(64), 't2_base.features.0.bias': torch.ones(64)}
    with pytest.raises(ValueError, match=r't2_base\.features\.0\.bias differs'):
        convert_state_dict(state_dict)
