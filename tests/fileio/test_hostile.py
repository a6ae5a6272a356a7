"""Checkpoints that run code are refused, however they are wrapped and whoever loads them; no test here runs any."""

import re
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import BaseStorageBackend
from mmengine.fileio.backends.registry_utils import backends
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint

from ifn_plugin.fileio import CheckpointError, load_checkpoint_file
from ifn_plugin.models.backbones.pretrained import load_encoder_weights
from ifn_plugin.tools.convert_checkpoint import main as convert
from ifn_plugin.tools.train import parse_args
from ifn_plugin.utils.configurations import find_config

LOADERS = ["torch's own", 'for older torch']
CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.fixture
def loader(request, monkeypatch):
    """Either way of loading, whatever torch is installed."""
    if request.param == LOADERS[1]:
        monkeypatch.setattr('ifn_plugin.fileio.checkpoint.TORCH_KNOWS_SAFE_GLOBALS', False)


@pytest.mark.parametrize('loader', LOADERS, indirect=True)
@pytest.mark.parametrize('container', hostile.CONTAINERS)
@pytest.mark.parametrize('protocol', [2, 4])
def test_loading_refuses_every_payload(tmp_path, loader, container, protocol):
    path, mark = tmp_path / 'evil.pth', tmp_path / 'executed'
    for name, payload in hostile.payloads(mark).items():
        for place, put in hostile.PLACES.items():
            hostile.CONTAINERS[container](put(payload), path, protocol)
            with pytest.raises(ValueError, match=r'evil\.pth is not a checkpoint that can be read safely: .') as caught:
                load_checkpoint_file(path)
                pytest.fail(f'{name} in {place} was loaded')
            assert not mark.exists(), f'{name} in {place} was run'
            assert '\n' not in str(caught.value)


def test_the_payloads_run_where_loading_is_not_safe(tmp_path):
    """Lest the tests above pass for payloads that do nothing: half of them leave their mark at once."""
    ran = set()
    for name in ('os.system', 'posix.system', 'eval', 'exec', 'python2-eval', 'open', '_io.open', 'getattr-module',
                 'reduce', 'pickle.loads', 'marshal', 'timeit', 'numpy.f2py', 'mmengine.config', 'history-state'):
        mark = tmp_path / name
        hostile.CONTAINERS['zip'](hostile.payloads(mark)[name], tmp_path / 'evil.pth', 2)
        try:
            loaded = torch.load(tmp_path / 'evil.pth', weights_only=False)
            if name == 'marshal':
                loaded()
        except Exception:
            pass
        if mark.exists():
            ran.add(name)
    assert len(ran) >= 14, ran


class Program(torch.nn.Module):
    """TorchScript, which runs when it is loaded."""

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return torch.zeros(1), self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(Program()), tmp_path / 'program.pth')
    with pytest.raises(ValueError, match=r'program\.pth is not a checkpoint that can be read safely: .*TorchScript'):
        load_checkpoint_file(tmp_path / 'program.pth')


class Store(BaseStorageBackend):
    """An object store whose buckets are folders."""

    root = ''

    def get(self, filepath):
        return (Path(self.root) / filepath.partition('://')[2]).read_bytes()

    def get_text(self, filepath):
        return self.get(filepath).decode()


@pytest.mark.parametrize('scheme', ['s3', 'petrel', 'cluster:s3'])
def test_checkpoints_in_object_stores(tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(Store, 'root', str(tmp_path))
    monkeypatch.setitem(backends, 'petrel', Store)
    log = HistoryBuffer([1., 5.], [1, 1])
    torch.save(dict(log=log), tmp_path / 'iter_2.pth')
    assert CheckpointLoader.load_checkpoint(f'{scheme}://iter_2.pth')['log'].statistics('mean') == 3
    mark = tmp_path / 'executed'
    hostile.CONTAINERS['zip'](hostile.payloads(mark)['eval'], tmp_path / 'evil.pth', 2)
    with pytest.raises(CheckpointError, match=rf'^{scheme}://evil\.pth is not a checkpoint that can be read safely'):
        CheckpointLoader.load_checkpoint(f'{scheme}://evil.pth')
    assert not mark.exists()


def test_loading_changes_no_class_and_no_file(tmp_path):
    """Neither classes nor functions, by states that are set on what a file may name."""
    for payload in hostile.payloads(tmp_path / 'executed').values():
        hostile.CONTAINERS['legacy'](payload, tmp_path / 'evil.pth', 2)
        with pytest.raises(ValueError):
            load_checkpoint_file(tmp_path / 'evil.pth')
    assert not hasattr(torch.Tensor, 'hacked')
    assert HistoryBuffer([1., 5.], [1, 1]).statistics('mean') == 3
    stream = hostile.patch_of(('builtins', 'getattr'), tmp_path / 'owned')
    (tmp_path / 'evil.pth').write_bytes(stream)
    with pytest.raises(ValueError, match='not a checkpoint that can be read safely'):
        load_checkpoint_file(tmp_path / 'evil.pth')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['evil.pth']


def test_crafted_array_states_stay_within_their_memory(tmp_path):
    """The byte order is all that an array's kind can be told, so none reaches beyond its memory."""
    content = np.arange(4.).tobytes()
    reconstruct = np.empty(0).__reduce__()[0]
    for state in ((3, '<', (np.dtype('f8'), (1000, )), None, None, -1, -1, 0),
                  (3, '<', None, ('a', ), {'a': (np.dtype('f8'), 100000)}, 100000, 1, 0)):
        kind = hostile.Call(np.dtype, 'f8', state=state)
        array = hostile.Call(reconstruct, np.ndarray, (0, ), b'b', state=(1, (4, ), kind, False, content))
        torch.save(dict(array=array), tmp_path / 'crafted.pth')
        loaded = load_checkpoint_file(tmp_path / 'crafted.pth')['array']
        assert loaded.dtype == np.dtype('f8') and loaded.dtype.fields is None and loaded.tolist() == [0, 1, 2, 3]
        assert np.dtype('f8').itemsize == 8 and np.dtype('f8').fields is None


@pytest.fixture(scope='module')
def runner(options, tmp_path_factory):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(parse_args([str(CONFIG), '--cfg-options', *options]).cfg_options)
    cfg.work_dir = str(tmp_path_factory.mktemp('run'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        return Runner.from_cfg(cfg)


@pytest.mark.parametrize('how', ['load_checkpoint', 'resume', 'model', 'init_cfg', 'convert'])
def test_runner_init_cfg_and_conversion_refuse_every_payload(runner, tmp_path, how):
    path, mark, target = tmp_path / 'evil.pth', tmp_path / 'executed', tmp_path / 'target.pth'
    load = {
        'load_checkpoint': lambda: runner.load_checkpoint(str(path)),
        'resume': lambda: runner.resume(str(path)),
        'model': lambda: load_checkpoint(runner.model, str(path)),
        'init_cfg': lambda: load_encoder_weights(runner.model.backbone, str(path)),
        'convert': lambda: convert([str(path), str(target)]),
    }[how]
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    for name, payload in hostile.payloads(mark).items():
        hostile.CONTAINERS['zip'](hostile.PLACES['log'](payload), path, 2)
        with pytest.raises((ValueError, SystemExit), match=r'evil\.pth is not a checkpoint that can be read safely'):
            load()
            pytest.fail(f'{name} was loaded')
        assert not mark.exists(), f'{name} was run'
    assert not target.exists()
    assert all(torch.equal(value, before[key]) for key, value in runner.model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize('command', ['train --resume', 'train init_cfg', 'test', 'convert'])
def test_each_command_refuses_a_payload(python, options, tmp_path, command):
    """In a process of its own."""
    path, mark = tmp_path / 'iter_1.pth', tmp_path / 'executed'
    hostile.CONTAINERS['zip'](hostile.PLACES['log'](hostile.payloads(mark)['os.system']), path, 2)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    run = ['--work-dir', tmp_path, '--cfg-options', *options]
    arguments = {
        'train --resume': ['train', CONFIG, '--resume', *run],
        'train init_cfg': ['train', CONFIG, *run, f'model.backbone.init_cfg.checkpoint={path}'],
        'test': ['test', CONFIG, path, *run],
        'convert': ['convert_checkpoint', path, tmp_path / 'converted.pth'],
    }[command]
    if 'init_cfg' in command:
        arguments.remove('model.backbone.init_cfg=None')
    output = python('-m', f'ifn_plugin.tools.{arguments[0]}', *arguments[1:], fails=True)
    last = output.strip().splitlines()[-1]
    assert re.search(r'iter_1\.pth is not a checkpoint that can be read safely: .*system', last), output
    assert not mark.exists()
