"""What mmengine, mmseg and open-cd put into checkpoints by documented means loads safely, whatever torch is there."""

import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

import hostile
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from ifn_plugin.fileio import load_checkpoint_file


@pytest.fixture(params=["torch's own", 'for older torch'])
def load(request, tmp_path, monkeypatch):
    """A function that saves and loads."""
    if request.param == 'for older torch':
        monkeypatch.setattr('ifn_plugin.fileio.checkpoint.TORCH_KNOWS_SAFE_GLOBALS', False)

    def save_and_load(content):
        torch.save(dict(content=content), tmp_path / 'checkpoint.pth')
        return load_checkpoint_file(tmp_path / 'checkpoint.pth')['content']

    return save_and_load


def weighted_mean(self, window_size=None, weight=None):
    return float(np.average(self._log_history, weights=weight))


class Statistics:

    @staticmethod
    def spread(self, window_size=None):
        return float(np.ptp(self._log_history))


@pytest.fixture
def statistics(monkeypatch):
    """A function, a class's function and one of numpy's, registered as mmengine's documentation says."""
    # mmengine can register a function, but not take it back
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', dict(HistoryBuffer._statistics_methods))
    for method in (weighted_mean, Statistics.spread, np.median):
        HistoryBuffer.register_statistics(method)
    return HistoryBuffer._statistics_methods


@pytest.mark.parametrize('registered', [True, False])
def test_a_log_with_the_users_statistics_is_loaded(load, statistics, registered):
    """In the program that has them, and in one that has not, where the log is all the same."""
    hub = MessageHub('name')
    for value in (1., 2., 6.):
        hub.update_scalar('train/loss', value)
    content = hub.state_dict()
    if not registered:
        # what the file holds is fixed when it is written
        original = HistoryBuffer.__getstate__
        methods = dict(statistics)
        HistoryBuffer.__getstate__ = lambda self: original(self) | dict(statistics_methods=methods)
        for name in ('weighted_mean', 'spread', 'median'):
            del statistics[name]
        try:
            log = load(content)['log_scalars']['train/loss']
        finally:
            HistoryBuffer.__getstate__ = original
        with pytest.raises(KeyError, match='weighted_mean has not been registered'):
            log.statistics('weighted_mean')
    else:
        log = load(content)['log_scalars']['train/loss']
        assert log.statistics('weighted_mean', weight=[1, 1, 0]) == 1.5 and log.statistics('spread') == 5
    assert log.mean() == 3 and statistics['mean'] is HistoryBuffer.mean


def test_nested_settings_are_loaded(load):
    shared = ConfigDict(name='roof', colour=np.array([1, 2, 3], np.uint8))
    metainfo = dict(classes=('a', 'b'), palette=np.zeros((2, 3), np.uint8), names=np.array(['ground', 'Dächer']),
                    sensor=ConfigDict(bands=ConfigDict(red=3), nested=[ConfigDict(a=1), (shared, shared)]))
    found = load(metainfo)
    assert found['sensor'].bands.red == 3 and type(found['sensor']) is type(found['sensor'].bands) is ConfigDict
    assert found['sensor'].nested[0] == ConfigDict(a=1)
    first, second = found['sensor'].nested[1]
    assert first is second and first.colour.tolist() == [1, 2, 3]
    assert found['palette'].shape == (2, 3) and found['names'].tolist() == ['ground', 'Dächer']
    assert not load(ConfigDict())


@pytest.mark.parametrize('value', [
    Path('work_dirs') / 'a' / 'b.pth', datetime.datetime(2024, 2, 29, 12, 30, 1, 5), datetime.date(2024, 2, 29),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    datetime.timedelta(days=1, microseconds=3), datetime.time(1, 2, 3),
    {1, 2}, frozenset({'a'}), 1 + 2j, np.float16(0.5), np.bool_(True),
    np.str_('Fläche'), np.array([1j, 2]), np.array([b'ab', b'c']), np.array([True, False]), b'', b'\xff', range, None,
], ids=repr)
def test_values_in_the_message_hub_are_loaded(load, value):
    if value is range:
        with pytest.raises(ValueError, match=r'builtins\.x?range, which is not allowed in a checkpoint'):
            load(value)
        return
    found = load(value)
    assert type(found) is type(value) and (found == value if not isinstance(value, np.ndarray) else
                                           np.array_equal(found, value) and found.dtype == value.dtype)


@pytest.mark.parametrize('path', [PurePosixPath('/data/a.pth'), PureWindowsPath('data') / 'a.pth'])
def test_paths_of_another_system_are_paths_of_this_one(load, path):
    assert load(path) == Path(*path.parts)


def test_optimizer_states_are_loaded(load):
    """Of several networks, and with a loss scale."""
    layers = torch.nn.Linear(2, 1), torch.nn.Linear(1, 2)
    optimizers = [torch.optim.Adam(layer.parameters(), betas=(0.8, 0.9)) for layer in layers]
    layers[0](torch.ones(1, 2)).sum().backward()
    optimizers[0].step()
    wrapper = OptimWrapperDict(first=OptimWrapper(optimizers[0]), second=OptimWrapper(optimizers[1]))
    torch.testing.assert_close(load(wrapper.state_dict()), wrapper.state_dict())
    if torch.cuda.is_available():
        wrapper = AmpOptimWrapper(optimizer=optimizers[0])
        assert load(wrapper.state_dict())['loss_scaler'] == wrapper.state_dict()['loss_scaler']


def test_schedules_of_mmseg_are_loaded(load):
    settings = dict(type='mmseg.PolyLRRatio', power=0.9, begin=0, end=9, by_epoch=False, eta_min_ratio=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    state = PARAM_SCHEDULERS.build(dict(settings, optimizer=optimizer)).state_dict()
    assert load(state) == state


@pytest.mark.parametrize('content', [
    hostile.Call(ConfigDict, [('a', 1)]), hostile.Call(ConfigDict, {}, {}),
    hostile.Call(ConfigDict, {}, state=dict(keys=1)), hostile.Call(hostile.Global('pathlib', 'PosixPath'), 1),
    hostile.Call(hostile.Global('pathlib', 'PosixPath.touch'), hostile.Call(PurePosixPath, 'a')),
    hostile.Call(getattr, PurePosixPath, 'touch'), hostile.Call(getattr, datetime.datetime, 'now'),
    hostile.Call(hostile.Call(getattr, hostile.Global('program', 'Class'), 'method')),
    hostile.Call(hostile.Global('program', 'function'), state=dict(a=1)),
    hostile.Call(HistoryBuffer, state=dict(statistics_methods=dict(a=hostile.Call(hostile.Global('a', 'b'))))),
    dict(a=hostile.Global('program', 'function')), [(hostile.Global('program', 'Class'), )],
    hostile.Call(hostile.Global('copyreg', '__newobj__'), hostile.Global('program', 'Class')),
], ids=range(13))
def test_misused_placeholders_are_refused(load, content, tmp_path):
    hostile.CONTAINERS['zip'](dict(content=content), tmp_path / 'crafted.pth', 2)
    with pytest.raises(ValueError, match=r'crafted\.pth is not a checkpoint that can be read safely: .'):
        load_checkpoint_file(tmp_path / 'crafted.pth')


def test_a_pickled_object_is_refused_by_its_name(load):
    with pytest.raises(ValueError, match=r'(an object|a call) of .*Statistics, which is not allowed in a checkpoint'):
        load(Statistics())


def test_settings_that_a_file_names_often_are_read_once(load):
    content = dict(a=1)
    for _ in range(60):
        content = hostile.Call(ConfigDict, dict(left=content, right=content))
    found = load(content)
    for _ in range(60):
        assert found.left is found.right
        found = found.left
    assert found == dict(a=1)


class Model(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.layer(torch.stack(list(inputs))).square().mean())


class Dataset(torch.utils.data.Dataset):
    metainfo = dict(sensor=ConfigDict(bands=ConfigDict(red=3), palette=np.zeros((2, 3))))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.ones(1))


def test_a_run_resumes_from_its_own_checkpoint(load, statistics, tmp_path, caplog):
    def run(number, **settings):
        return Runner(
            Model(), str(tmp_path), dict(batch_size=2, sampler=dict(type='InfiniteSampler'), dataset=Dataset()),
            train_cfg=dict(by_epoch=False, max_iters=number), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
            custom_hooks=[dict(type='EMAHook')], experiment_name=f'{load}-{number}', log_level='WARNING',
            **settings)

    run(2).train()
    runner = run(4, resume=True)
    runner.train()
    assert runner.iter == 4 and (tmp_path / 'iter_4.pth').is_file()
    assert 'dataset metainfo' not in caplog.text
