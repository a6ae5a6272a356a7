"""A run does not grow, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import psutil
import pytest

from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.utils.configurations import find_config

REPOSITORY = Path(__file__).parents[2]
CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
ITERATIONS = int(os.environ.get('IFN_PLUGIN_LONG_RUN', '0'))


@pytest.fixture
def train(options, tmp_path):
    """A function that starts a run with two workers in a process group of its own."""
    started = []

    def start(*more):
        workers = [f'{split}_dataloader.{setting}' for split in ('train', 'val')
                   for setting in ('num_workers=2', 'persistent_workers=True')]
        with (tmp_path / 'output').open('w') as output:
            process = psutil.Popen(
                [sys.executable, '-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', tmp_path / 'run',
                 '--cfg-options', *options, 'train_dataloader.batch_size=1', *workers, *more],
                env=dict(os.environ, PYTHONPATH=str(REPOSITORY)), stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
                # as in a terminal: what a shell starts in the background ignores Ctrl-C, and so would its children
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def logged(tmp_path):
    return sum(path.read_text().count('"loss"') for path in (tmp_path / 'run').glob('*/vis_data/scalars.json'))


@pytest.mark.skipif(ITERATIONS < 1000, reason='takes long: set IFN_PLUGIN_LONG_RUN to 1000 iterations or more')
def test_memory_files_and_processes_do_not_grow(train, tmp_path):
    interval = ITERATIONS // 10
    process = train(f'train_cfg.max_iters={ITERATIONS}', f'train_cfg.val_interval={interval}',
                    f'default_hooks.checkpoint.interval={interval}', 'default_hooks.checkpoint.max_keep_ckpts=1')
    samples = []
    while process.poll() is None:
        time.sleep(1)
        try:
            family = [process, *process.children(recursive=True)]
            memory = sum(member.memory_full_info().uss for member in family)
            samples.append((logged(tmp_path), memory, sum(member.num_fds() for member in family), len(family)))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            break  # the end
    assert process.wait() == 0, (tmp_path / 'output').read_text()
    # from the second validation on, whose workers stay
    tenths = [[sample[1:] for sample in samples if number < 10 * sample[0] / ITERATIONS <= number + 1]
              for number in range(2, 10)]
    for number, tenth in enumerate(tenths, 3):
        print(f'{number}/10: {len(tenth)} samples, peak {max(tenth)[0] / 2**20:.0f} MiB, '
              f'{max(files for _, files, _ in tenth)} files, {max(processes for *_, processes in tenth)} processes')
    # several tenths each: files come and go as workers hand over batches
    first, last = (tuple(map(max, zip(*chain(*part)))) for part in (tenths[:3], tenths[-3:]))
    assert last[0] < 1.02 * first[0] and last[1] <= first[1] and last[2] == first[2]


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='Ctrl-C is sent as a POSIX signal')
def test_nothing_is_left_after_an_interrupt(train, tmp_path):
    shared = Path('/dev/shm')
    before = set(shared.glob('torch_*')) if shared.is_dir() else set()
    process = train('train_cfg.max_iters=100000', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2')
    deadline = time.monotonic() + 300
    while logged(tmp_path) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    family = [process, *process.children(recursive=True)]
    assert len(family) == 5, (tmp_path / 'output').read_text()  # two workers for each of two data sets
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive and process.returncode != 0
    assert not list((tmp_path / 'run').rglob('*unfinished*'))
    assert not (set(shared.glob('torch_*')) if shared.is_dir() else set()) - before
    assert load_checkpoint_file(tmp_path / 'run' / 'iter_2.pth')['meta']['iter'] == 2
