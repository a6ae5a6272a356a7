"""Interrupted training: killed, resumed, with a full disk, with an invalid loss."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper

from ifn_plugin.engine import DelayedRuntimeInfoHook, InvalidLossHook, WholeCheckpointHook
from ifn_plugin.engine.transfer import Transfer
from ifn_plugin.fileio import WholeFileBackend, load_checkpoint_file, unfinished_path
from ifn_plugin.utils.configurations import find_config

REPOSITORY = Path(__file__).parents[2]
CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
ITERATIONS = 6


@pytest.fixture(scope='session')
def settings(options):
    """Two workers, dropout, and a learning rate at which each step shows."""
    return [
        *options, f'train_cfg.max_iters={ITERATIONS}', 'train_cfg.val_interval=100', 'train_dataloader.num_workers=2',
        'model.decode_head.dropout_ratio=0.1', 'param_scheduler=None', 'optim_wrapper.optimizer.lr=1e-4'
    ]


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory, python, settings):
    """Work dir of a run that nothing disturbs."""
    work_dir = tmp_path_factory.mktemp('uninterrupted')
    python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', work_dir, '--cfg-options', *settings)
    return work_dir


def losses(scalars, work_dir):
    return {entry['iter']: entry['loss'] for entry in scalars(work_dir) if 'loss' in entry}


def resume(python, settings, work_dir, *more):
    return python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', work_dir, '--resume', '--cfg-options',
                  *settings, *more)


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_the_uninterrupted_one(uninterrupted, scalars, python, settings, tmp_path):
    """Losses to 1e-6, and the weights at the end, with samples, crops, flips and dropout all random."""
    command = [sys.executable, '-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', tmp_path, '--cfg-options',
               *settings]
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob('iter_4.pth')) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / 'iter_6.pth').exists()
    resume(python, settings, tmp_path)
    expected, got = losses(scalars, uninterrupted), losses(scalars, tmp_path)
    assert len(set(expected.values())) == ITERATIONS
    assert got == pytest.approx({n: expected[n] for n in got}, abs=1e-6) and {5, 6} <= got.keys()
    weights = [load_checkpoint_file(folder / 'iter_6.pth')['state_dict'] for folder in (uninterrupted, tmp_path)]
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_killed_while_writing_a_checkpoint_resumes_from_the_former(uninterrupted, scalars, python, settings, tmp_path):
    """The former checkpoint stays, though only one is kept, and the run goes on from it."""
    keep_one = 'default_hooks.checkpoint.max_keep_ckpts=1'
    die = f"""
import os, signal, sys
from ifn_plugin.tools import train
written, fsync = [], os.fsync
def die_at_the_second(file):
    written.append(file)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)
os.fsync = die_at_the_second
train.main({[str(CONFIG), '--work-dir', str(tmp_path), '--cfg-options', *settings, keep_one]!r})"""
    python('-c', die, fails=True)
    assert {path.name for path in tmp_path.glob('*iter*')} == {'iter_2.pth', unfinished_path(Path('iter_4.pth')).name}
    resume(python, settings, tmp_path, keep_one)
    assert {path.name for path in tmp_path.glob('iter*.pth')} == {'iter_6.pth'}
    expected, got = losses(scalars, uninterrupted), losses(scalars, tmp_path)
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_run_resumes_from_the_last_complete_checkpoint(uninterrupted, scalars, python, settings, tmp_path):
    """As a run leaves it that was killed by other software than ours."""
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    for name in ('iter_2.pth', 'iter_4.pth'):
        shutil.copy(uninterrupted / name, work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_4.pth'))
    os.truncate(work_dir / 'iter_4.pth', 1_000_000)
    output = resume(python, settings, work_dir)
    assert f'resuming from {work_dir / "iter_2.pth"}' in output
    assert min(losses(scalars, work_dir)) == 3


@pytest.mark.slow
def test_a_flexible_runner_goes_on_where_it_was(options, python, scalars, tmp_path):
    """It counts a checkpoint that is written after a validation as one step more."""
    config = tmp_path / 'own.py'
    config.write_text(f'_base_ = {str(CONFIG)!r}\n'
                      "runner_type, strategy = 'FlexibleRunner', dict(type='SingleDeviceStrategy')\n")
    arguments = ['-m', 'ifn_plugin.tools.train', config, '--work-dir', tmp_path / 'run']
    python(*arguments, '--cfg-options', *options, 'train_cfg.max_iters=2')
    names = ['iter_2.pth', next((tmp_path / 'run').glob('best_*.pth')).name]
    assert [load_checkpoint_file(tmp_path / 'run' / name)['meta']['iter'] for name in names] == [2, 2]
    python(*arguments, '--resume', '--cfg-options', *options, 'train_cfg.max_iters=3')
    assert list(losses(scalars, tmp_path / 'run')) == [1, 2, 3]


@pytest.mark.parametrize('place', ['lost', 'unnamed', 'unrecorded', 'moved', 'epochs', 'elsewhere', 'folders', 'away'])
def test_complete_checkpoints_are_found(tmp_path, place):
    """Where the last is lost, or its name; in a folder that was moved, of epochs, in an out_dir, DeepSpeed's folders.

    Or the disk that they are on may be away.
    """
    work_dir = tmp_path / 'run'
    folder = tmp_path / 'disk' / 'run' if place == 'elsewhere' else work_dir
    for path in (work_dir, folder):
        path.mkdir(parents=True, exist_ok=True)
    hook = WholeCheckpointHook(by_epoch=place == 'epochs', out_dir=tmp_path / 'disk' if place == 'elsewhere' else None)
    stem = 'epoch' if place == 'epochs' else 'iter'
    for number in (8, 10) if place != 'away' else ():
        path = folder / f'{stem}_{number}.pth'
        if place == 'folders':
            path.mkdir()
        else:
            torch.save({}, path)
    record, gone = work_dir / 'last_checkpoint', tmp_path / 'gone' / f'{stem}_12.pth'
    named = gone if place in ('moved', 'away') else folder / gone.name
    if place != 'unrecorded':
        record.write_text('' if place == 'unnamed' else str(named))
    hook.before_run(SimpleNamespace(_resume=True, _load_from=None, work_dir=str(work_dir), cfg={}))
    assert record.read_text() == str(gone if place == 'away' else folder / f'{stem}_10.pth')


def test_the_last_checkpoint_is_named_as_mmengine_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr('locale.getpreferredencoding', lambda *_: 'latin-1')
    (tmp_path / 'Übung').mkdir()
    path, record = tmp_path / 'Übung' / 'iter_2.pth', tmp_path / 'Übung' / 'last_checkpoint'
    torch.save({}, path)
    record.touch()
    WholeCheckpointHook(by_epoch=False).before_run(
        SimpleNamespace(_resume=True, _load_from=None, work_dir=str(record.parent), cfg={}))
    assert record.read_bytes() == str(path).encode('latin-1')


@pytest.mark.parametrize('template', ['iter_{:06d}.pth', '{0}.pth', '{}of9.pth'])
def test_checkpoints_with_names_of_ones_own_are_found(tmp_path, template):
    for step in (8, 10):
        torch.save({}, tmp_path / template.format(step))
    WholeCheckpointHook(by_epoch=False, filename_tmpl=template).before_run(
        SimpleNamespace(_resume=True, _load_from=None, work_dir=str(tmp_path), cfg={}))
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / template.format(10))


def test_the_best_of_a_run_that_was_copied_stays(tmp_path):
    hook = WholeCheckpointHook(by_epoch=False, save_best='F1', rule='greater')
    runner = SimpleNamespace(iter=4, epoch=0, message_hub=MessageHub('copy'), logger=MMLogger.get_current_instance(),
                             save_checkpoint=lambda folder, filename, **_: (tmp_path / 'b' / filename).touch())
    hook.out_dir, hook.file_backend, hook._training = str(tmp_path / 'b'), WholeFileBackend(), True
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / 'best_F1_iter_2.pth').touch()
    hook.best_ckpt_path = str(tmp_path / 'a' / 'best_F1_iter_2.pth')
    hook.after_val_epoch(runner, dict(F1=60.))
    assert (tmp_path / 'a' / 'best_F1_iter_2.pth').exists() and (tmp_path / 'b' / 'best_F1_iter_4.pth').exists()


def test_remote_folders_have_their_own_backend():
    assert WholeCheckpointHook(out_dir='s3://bucket/runs').backend_args is None
    assert WholeCheckpointHook(-1, True, True, True, 's3://bucket/runs').backend_args is None
    assert WholeCheckpointHook(out_dir='runs').backend_args == dict(backend='ifn_plugin.whole')


@pytest.mark.slow
def test_resuming_far_into_a_run_starts_at_once(uninterrupted, scalars, python, settings, tmp_path):
    """At iteration 30,000, without loading the 30,000 batches before it."""
    checkpoint = load_checkpoint_file(uninterrupted / 'iter_6.pth')
    checkpoint['meta']['iter'] = 30000
    torch.save(checkpoint, tmp_path / 'iter_30000.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_30000.pth'))
    begin = time.monotonic()
    resume(python, settings, tmp_path, 'train_cfg.max_iters=30001', 'default_hooks.checkpoint.interval=100000')
    assert list(losses(scalars, tmp_path)) == [30001]
    # a batch takes several milliseconds: loading them all would take minutes
    assert time.monotonic() - begin < 60


@pytest.mark.slow
def test_an_interrupted_validation_is_run_on_resuming(uninterrupted, scalars, python, settings, tmp_path):
    """The last checkpoint is written before the last validation, which chooses the best."""
    checkpoint = load_checkpoint_file(uninterrupted / 'iter_6.pth')
    info = checkpoint['message_hub']['runtime_info']
    assert info.pop('last_validation') == 6
    del info['best_score'], info['best_ckpt']
    torch.save(checkpoint, tmp_path / 'iter_6.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_6.pth'))
    output = resume(python, settings, tmp_path)
    assert 'Running the missed validation after iteration 6' in output and not losses(scalars, tmp_path)
    expected, = (entry for entry in scalars(uninterrupted) if 'F1' in entry)
    made_up, = scalars(tmp_path)
    assert made_up['step'] == 6 and {key: made_up[key] for key in ('F1', 'AP', 'threshold@val')} == pytest.approx(
        {key: expected[key] for key in ('F1', 'AP', 'threshold@val')}, abs=1e-3)
    assert (tmp_path / 'best_F1_iter_6.pth').is_file()
    rewritten = load_checkpoint_file(tmp_path / 'iter_6.pth')['message_hub']['runtime_info']
    assert rewritten['last_validation'] == 6 and rewritten['change_threshold'] == info['change_threshold']
    assert json.loads(next(tmp_path.glob('*/evaluation_val.json')).read_text())['iteration'] == 6


@pytest.mark.slow
def test_documented_training_by_epochs_logs_validates_and_saves(scalars, python, options, tmp_path):
    """Two epochs of two batches, with a validation and a checkpoint after the second."""
    text = (REPOSITORY / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')
    recipe = next(block for block in re.findall('```python\n(.*?)```', text, re.DOTALL) if 'EpochBased' in block)
    (tmp_path / 'epochs.py').write_text(f'_base_ = {str(CONFIG)!r}\n{recipe}')
    python('-m', 'ifn_plugin.tools.train', tmp_path / 'epochs.py', '--work-dir', tmp_path / 'run', '--cfg-options',
           *options, 'train_cfg.max_epochs=2', 'param_scheduler.0.end=1', 'param_scheduler.1.begin=1',
           'param_scheduler.1.end=2')
    entries = scalars(tmp_path / 'run')
    assert [(entry['epoch'], entry['iter']) for entry in entries if 'loss' in entry] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    assert [entry['step'] for entry in entries if 'F1' in entry] == [2]
    assert (tmp_path / 'run' / 'epoch_2.pth').is_file()


@pytest.mark.parametrize('save_best', ['F1', ['F1', 'IoU']])
@pytest.mark.parametrize('full', [False, True])
def test_the_former_best_is_removed_after_the_new_one_is_written(tmp_path, save_best, full):
    hook = WholeCheckpointHook(interval=-1, by_epoch=False, save_best=save_best, rule='greater', save_last=False)
    hub = MessageHub(f'best {save_best} {full}')
    runner = SimpleNamespace(iter=2, epoch=0, message_hub=hub, logger=MMLogger.get_current_instance())
    hook.out_dir, hook.file_backend, hook._training = str(tmp_path), WholeFileBackend(), True
    names = [save_best] if isinstance(save_best, str) else save_best

    def save(folder, filename, **_):
        # whatever is written, the former is still there
        assert not written or any((tmp_path / name).is_file() for name in written if name != filename)
        if full and len(written) == len(names):
            raise OSError(errno.ENOSPC, 'full')
        written.append(filename)
        (tmp_path / filename).write_bytes(b'weights')

    written = []
    runner.save_checkpoint = save
    hook.best_ckpt_path_dict = dict.fromkeys(names)
    hook.after_val_epoch(runner, dict.fromkeys(names, 50.))
    first = set(written)
    assert {path.name for path in tmp_path.iterdir()} == first == {f'best_{name}_iter_2.pth' for name in names}
    runner.iter = 4
    if full:
        with pytest.raises(OSError, match='full'):
            hook.after_val_epoch(runner, dict.fromkeys(names, 60.))
        assert {path.name for path in tmp_path.iterdir()} == first
    else:
        hook.after_val_epoch(runner, dict.fromkeys(names, 60.))
        runner.iter = 6
        hook.after_val_epoch(runner, dict.fromkeys(names, 55.))
        assert {path.name for path in tmp_path.iterdir()} == {f'best_{name}_iter_4.pth' for name in names}


def test_the_backend_writes_texts_atomically(tmp_path, monkeypatch):
    WholeFileBackend().put_text('Fläche', tmp_path / 'new' / 'a.txt', encoding='latin1')
    assert (tmp_path / 'new' / 'a.txt').read_bytes() == 'Fläche'.encode('latin1')
    monkeypatch.setattr(os, 'fsync', lambda file: os.write(file, b'') + 1 / 0)
    with pytest.raises(ZeroDivisionError):
        WholeFileBackend().put_text('half', tmp_path / 'new' / 'a.txt')
    assert (tmp_path / 'new' / 'a.txt').read_bytes() == 'Fläche'.encode('latin1')


@pytest.mark.slow
def test_an_invalid_loss_stops_the_run(python, settings, tmp_path):
    output = python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', tmp_path, '--cfg-options', *settings,
                    'optim_wrapper.optimizer.lr=1e30', 'default_hooks.checkpoint.interval=1', fails=True)
    message = output[output.rindex('FloatingPointError'):]
    assert re.search(r'(Iteration \d: .*decode\.level\d\.loss_ce=(nan|inf).*train/A/\d+\.png|After iteration \d, .* is '
                     'not finite: no checkpoint)', message)
    last = re.search(r'The last good checkpoint is (\S+\.pth)\.|There is no checkpoint yet', message)
    assert last and (last[1] is None or Path(last[1]).is_file())
    for path in tmp_path.glob('*.pth'):
        state = load_checkpoint_file(path)['state_dict']
        assert all(value.isfinite().all() for value in state.values())


class Scaler:

    def is_enabled(self):
        return True


class FakeRunner:
    """What the hook asks of a runner."""

    iter = 41
    work_dir = 'work'

    class message_hub:
        runtime_info = dict(last_ckpt='work/iter_40.pth')

    def __init__(self, scaled):
        from mmengine.optim import AmpOptimWrapper
        self.optim_wrapper = object.__new__(AmpOptimWrapper if scaled else OptimWrapper)
        self.optim_wrapper.loss_scaler = Scaler()


def test_invalid_loss_names_iteration_level_and_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'iter_40.pth').touch()
    outputs = {'loss': torch.tensor(torch.nan), 'decode.level1.loss_ce': torch.tensor(0.5),
               'decode.level3.loss_ce': torch.tensor(torch.nan)}
    with pytest.raises(FloatingPointError, match=r'Iteration 42: loss=nan, decode\.level3.*nan, .*iter_40\.pth'):
        InvalidLossHook().after_train_iter(FakeRunner(scaled=False), 41, dict(data_samples=[]), outputs)
    # the name of one that was not written
    (tmp_path / 'work' / 'iter_40.pth').rename(tmp_path / 'work' / 'iter_30.pth')
    (tmp_path / 'work' / 'last_checkpoint').write_text('work/iter_30.pth')
    with pytest.raises(FloatingPointError, match=r'The last good checkpoint is work/iter_30\.pth'):
        InvalidLossHook().after_train_iter(FakeRunner(scaled=False), 41, dict(data_samples=[]), outputs)


def test_a_sample_of_one_file_is_named():
    batch = dict(data_samples=[SimpleNamespace(img_path='stacked/1.tif'), SimpleNamespace()])
    with pytest.raises(FloatingPointError, match=r'from the pairs stacked/1\.tif; unnamed\.'):
        InvalidLossHook().after_train_iter(FakeRunner(scaled=False), 41, batch, dict(loss=torch.tensor(torch.nan)))


@pytest.mark.parametrize('batch', [
    None, [torch.ones(1)], (torch.ones(1), torch.ones(1)), torch.ones(1, 3), torch.ones(0), 'text', {},
    dict(data_samples=None)], ids=repr)
def test_an_invalid_loss_is_reported_for_batches_of_any_kind(batch):
    """It is what the collate function gives; without samples, the iteration and the losses are told all the same."""
    with pytest.raises(FloatingPointError, match=r'Iteration 42: loss=nan, from the pairs of a batch without names\.'):
        InvalidLossHook().after_train_iter(FakeRunner(scaled=False), 41, batch, dict(loss=torch.tensor(torch.nan)))


def test_a_few_overflows_are_left_to_loss_scaling():
    hook, runner = InvalidLossHook(patience=3), FakeRunner(scaled=True)
    invalid, valid = dict(loss=torch.tensor(torch.inf)), dict(loss=torch.tensor(1.))
    for outputs in [invalid, invalid, invalid, valid, invalid, invalid, invalid]:
        hook.after_train_iter(runner, 41, {}, outputs)
    with pytest.raises(FloatingPointError):
        hook.after_train_iter(runner, 41, {}, invalid)


@pytest.mark.parametrize('look', [
    lambda hook, runner: hook.after_train_iter(runner, 42, dict(data_samples=[]), dict(loss=torch.tensor(1.))),
    lambda hook, runner: hook.after_train_iter(runner, 42, None, None),
    lambda hook, runner: hook.before_save_checkpoint(runner, {}),
    lambda hook, runner: hook.before_val(runner),
    lambda hook, runner: hook.after_train(runner),
], ids=['next iteration', 'without losses', 'checkpoint', 'validation', 'end'])
def test_a_late_invalid_loss_is_reported_with_its_iteration_and_images(monkeypatch, look):
    monkeypatch.setattr(Transfer, 'is_there', lambda self: False)  # as on a GPU
    hook, runner = InvalidLossHook(), FakeRunner(scaled=False)
    batch = dict(data_samples=[SimpleNamespace(img_path=['a.png', 'b.png'])])
    losses = {'loss': torch.tensor(torch.inf), 'decode.level2.loss_ce': torch.tensor([torch.inf]),
              'decode.level3.loss_ce': torch.tensor(2., dtype=torch.float64)}
    hook.after_train_iter(runner, 41, batch, losses)
    runner.iter += 1
    with pytest.raises(FloatingPointError,
                       match=r'Iteration 42: loss=inf, decode\.level2\.loss_ce=inf, from the pairs a\.png and b\.png'):
        look(hook, runner)
    look(hook, runner)  # once


def test_a_few_late_overflows_are_left_to_loss_scaling(monkeypatch):
    monkeypatch.setattr(Transfer, 'is_there', lambda self: False)  # as on a GPU
    hook, runner = InvalidLossHook(patience=3), FakeRunner(scaled=True)
    invalid, valid = dict(loss=torch.tensor(torch.inf)), dict(loss=torch.tensor(1.))
    for outputs in [invalid, invalid, invalid, valid, invalid, invalid, invalid, invalid]:
        hook.after_train_iter(runner, 41, {}, outputs)
        runner.iter += 1
    with pytest.raises(FloatingPointError, match='Iteration 49'):
        hook.after_train_iter(runner, 49, {}, valid)


@pytest.mark.parametrize('late', [False, True])
def test_the_log_is_mmengines_whenever_losses_arrive(late, monkeypatch):
    if late:
        monkeypatch.setattr(Transfer, 'is_there', lambda self: False)  # as on a GPU
    hubs = {}
    for kind in (RuntimeInfoHook, DelayedRuntimeInfoHook):
        hook, hub = kind(), MessageHub(kind.__name__)
        runner = SimpleNamespace(message_hub=hub, hooks=[LoggerHook(interval=5)], train_dataloader=range(100))
        hubs[kind] = read = []
        for iteration in range(13):
            outputs = {'loss': torch.tensor(1.5 * iteration), 'acc_seg': torch.tensor([2. * iteration])}
            hook.after_train_iter(runner, iteration, {}, outputs)
            if iteration % 5 == 4:
                read.append({name: list(scalars.data[0]) for name, scalars in hub.log_scalars.items()})
            if iteration == 6:
                hook.before_save_checkpoint(runner, {})
                read.append(hub.get_scalar('train/loss').current())
            if iteration == 7:
                hook.before_val(runner)
                read.append((hub.get_scalar('train/loss').current(), hub.get_info('loop_stage')))
        seen = len(hub.get_scalar('train/loss').data[0])
        assert seen == (12 if late and kind is DelayedRuntimeInfoHook else 13)
        hook.after_train(runner)
        read.append({name: list(scalars.data[0]) for name, scalars in hub.log_scalars.items()})
    assert hubs[DelayedRuntimeInfoHook] == hubs[RuntimeInfoHook]


def test_the_users_own_backend_is_used():
    assert WholeCheckpointHook(backend_args=dict(backend='local')).backend_args == dict(backend='local')
    assert WholeCheckpointHook().backend_args == dict(backend='ifn_plugin.whole')
