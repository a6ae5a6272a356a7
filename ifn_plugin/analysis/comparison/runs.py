"""Runs of a comparison: one model with one seed, each in its own folder."""

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ifn_plugin.analysis.comparison.settings import describe_settings
from ifn_plugin.analysis.logs import read_log
from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils.configurations import format_config

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class RunError(RuntimeError):
    """Failure of a run."""


def settings_file(folder: Path) -> Path:
    """Return the path of a run's settings, beside its folder; the folder has the runner's copy of them."""
    return folder.with_name(f'{folder.name}.py')


def prepare(cfg: Config, folder: Path) -> None:
    """Write the settings of a run beside its folder.

    Raises:
        ValueError: If the folder, or that of another seed of the model, has a run with other settings.
    """
    settings = describe_settings(cfg)
    for path in sorted(folder.parent.glob('seed*.py')):
        if describe_settings(_read(path)) != settings:
            raise ValueError(f'{path.with_suffix("")} holds a run with other settings: name another --work-dir, or '
                             f'remove it and {path}.')
    path = settings_file(folder)
    if not path.exists():
        write_atomic(format_config(cfg).encode(), path)


Say = Callable[[str], None]


def silent(progress: str) -> None:
    """Say nothing."""


def run(folder: Path, say: Say = silent) -> dict[str, Any]:
    """Train and test a model, unless that is already done.

    Args:
        folder: Folder of the run, whose settings :func:`prepare` has written.
        say: Function that is called with the progress whenever it has changed.

    Returns:
        ``metrics`` of the test under each protocol; ``validations``; ``iteration`` of the tested checkpoint; and
        ``time``, the median seconds for an iteration, ``None`` if none was logged.

    Raises:
        RunError: If training or test fails; the log is in the folder.
    """
    result_path = folder / 'result.json'
    if result_path.exists():
        result: dict[str, Any] = json.loads(result_path.read_text())
        return result
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / 'lock') as lock:
        settings = settings_file(folder)
        _call(lock, folder, say, 'train', settings, '--work-dir', folder, '--resume')
        _call(lock, folder, say, 'test', settings, _find_checkpoint(folder), '--work-dir', folder)
    result = _read_result(folder)
    write_atomic(json.dumps(result, indent=1).encode(), result_path)
    return result


def _find_checkpoint(folder: Path) -> Path:
    # several only if a run was killed between saving a new best checkpoint and removing the old one
    best = max(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime, default=None)
    if best is not None:
        return best
    last = folder / 'last_checkpoint'
    if not last.exists():
        raise RunError(f'training left no checkpoint in {folder}')
    return Path(last.read_text().strip())


def _read_result(folder: Path) -> dict[str, Any]:
    records = sorted(folder.glob('*/evaluation_test.json'))
    if not records:
        raise RunError('the test left no record: default_hooks of the protocol need ifn_plugin.EvaluationHook')
    record, log = json.loads(records[-1].read_text()), read_log(folder)
    times = [entry['time'] for entry in log if 'loss' in entry and 'time' in entry]
    return dict(
        metrics={protocol: found['metrics'] for protocol, found in record['protocols'].items()},
        validations=[entry for entry in log if 'F1' in entry and 'step' in entry],
        iteration=record['iteration'],
        time=statistics.median(times) if times else None)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[int]:
    """Hold a lock, which commands started with its file descriptor keep if they outlive this process.

    Args:
        path: The lock file.
        wait: Wait for a process that holds the lock.

    Yields:
        The lock's file descriptor.

    Raises:
        RunError: If another process holds the lock and ``wait`` is false.
    """
    with path.open('w') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise RunError(f'another process is using {path.parent}: wait for it, or stop it') from None
        yield file.fileno()


def _call(lock: int, folder: Path, say: Say, tool: str, *arguments: Any) -> None:
    """Run a command in its own process, so that its memory is freed and a crash does not end this process."""
    log = folder / f'{tool}.log'
    former, code = '', None
    with log.open('w') as output, subprocess.Popen(
            [sys.executable, '-m', f'ifn_plugin.tools.{tool}', *map(str, arguments)], stdout=output,
            stderr=subprocess.STDOUT, pass_fds=[lock] if fcntl is not None else []) as process:
        try:
            while code is None:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(1)
                progress = read_progress(log)
                if progress != former:
                    say(progress)
                former = progress
        except BaseException:
            process.kill()
            raise
    if code:
        lines = log.read_text(errors='replace').strip().splitlines() or ['no output']
        raise RunError(f'exit code {code} after {lines[-1]} ({log})')


# such as "Iter(train) [  50/4000]  …  eta: 0:12:30  …" and "Epoch(train) [3][ 50/4000]  …"
_PROGRESS = re.compile(
    r'(?:Iter|Epoch)\((train|val|test)\)\s+(?:\[(\d+)\])?\s*\[\s*(\d+)/(\d+)\](?:.*?eta: (.*?)  )?')


def read_progress(log: Path) -> str:
    """Return the last progress in a log of mmengine: task, iteration and time left; empty if there is none."""
    with log.open('rb') as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        lines = _PROGRESS.findall(file.read().decode(errors='replace'))
    if not lines:
        return ''
    task, epoch, done, total, left = lines[-1]
    where = f'epoch {epoch}, ' if epoch else ''
    return f'{task}: {where}iteration {done} of {total}' + (f', {left} left' if left else '')


def _read(settings: Path) -> Config:
    # a model's packages may be gone, and text in double braces is to stay
    return Config.fromfile(settings, import_custom_modules=False, use_predefined_variables=False,
                           use_environment_variables=False)


def read_results(work_dir: Path, like: Path) -> dict[str, list[dict[str, Any]]]:
    """Read all finished runs in the work dir of a comparison, whichever command made them.

    Args:
        work_dir: Work dir of the comparison.
        like: Folder of a run; runs under another protocol are left out.

    Returns:
        For each model, the results of its seeds.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    protocol = describe_settings(_read(settings_file(like)), protocol_only=True)
    for path in sorted(work_dir.glob('*/seed*/result.json')):
        settings = settings_file(path.parent)
        if settings.exists() and describe_settings(_read(settings), protocol_only=True) == protocol:
            results.setdefault(path.parent.parent.name, []).append(json.loads(path.read_text()))
    return results
