"""Runs that several processes share, and that continue after an interruption."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine import dist

from ifn_plugin.engine.processes import check_launcher, join_cpu_processes
from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils import abbreviate

T = TypeVar('T')
# How long processes wait for each other; one that has ended is noticed at once
WAIT = timedelta(days=7)
UNFINISHED = 'unfinished-predict'
RECORD = 'settings.json'


def start_processes(launcher: str, local_rank: int = 0) -> None:
    """Join the other processes that a launcher has started.

    Args:
        launcher: ``'none'``, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
        local_rank: Number of this process on its machine, where the launcher does not tell by ``LOCAL_RANK``.

    Raises:
        ValueError: If torchrun started several processes, but ``launcher`` is ``'none'``, or another launcher than
            this one started the process, or none.
    """
    if launcher == 'none':
        if int(os.environ.get('WORLD_SIZE', '1')) > 1 and 'TORCHELASTIC_RUN_ID' in os.environ:
            raise ValueError('torchrun started several processes, which would all do the same. Fix: add --launcher '
                             'pytorch.')
        return
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    check_launcher(launcher)
    # only a few lines of text are exchanged, and the first process may join rasters for hours
    if torch.cuda.is_available():
        dist.init_dist(launcher, 'gloo', timeout=WAIT.total_seconds())
    else:
        join_cpu_processes(launcher, timeout=WAIT)


def on_first(function: Callable[[], T]) -> T:
    """Call a function in the first process; in all processes, return what it returns or raise what it raises."""
    outcome: list[Any] = [None, None]
    if dist.is_main_process():
        try:
            outcome[0] = function()
        except Exception as error:  # raised below, in all processes: otherwise the others would wait for ever
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def refuse_existing(out: Path, results: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write over results, unless an unfinished run has left them.

    Raises:
        FileExistsError: If a result exists, there is no record of an unfinished run, and ``overwrite`` is not set.
    """
    if overwrite or read_settings(out):
        return
    found = [str(path) for path in results if path.exists()]
    if found:
        raise FileExistsError(f'There are results already: {abbreviate(found, 3)}. Fix: add --overwrite to write over '
                              'them, or name another folder.')


def read_settings(out: Path) -> dict[str, Any]:
    """Return the settings of an unfinished run; empty if there is none."""
    record = out / UNFINISHED / RECORD
    settings: dict[str, Any] = json.loads(record.read_bytes())['settings'] if record.exists() else {}
    return settings


class Run:
    """A run over pairs of images or rasters, whose results are written into one folder.

    What is finished is recorded in ``unfinished-predict`` in this folder, until the whole run is.

    Args:
        out: The folder of the results.
        settings: Whatever the results depend on, as JSON has it. A run continues only with the same settings.
        results: Files that the run writes in the end.
        overwrite: Whether to write over existing results, and to drop an unfinished run of other settings.

    Attributes:
        folder: Folder for what the run needs until it is finished.
        started: Time at which the run was started first, in seconds since 1970.

    Raises:
        FileExistsError: If a result exists, or an unfinished run of other settings, unless ``overwrite`` is set.
    """

    def __init__(self, out: Path, settings: dict[str, Any], results: Iterable[Path] = (),
                 overwrite: bool = False) -> None:
        self.folder = out / UNFINISHED
        self._record, self._results = self.folder / RECORD, list(results)
        self.started: float = on_first(lambda: self._start(settings, overwrite))

    def _start(self, settings: dict[str, Any], overwrite: bool) -> float:
        settings = json.loads(json.dumps(settings, default=str))
        if self._record.exists():
            record = json.loads(self._record.read_bytes())
            former: dict[str, Any] = record['settings']
            differing = [name for name in {**former, **settings} if former.get(name) != settings.get(name)]
            if not differing:
                return float(record['started'])
            if not overwrite:
                shown = ', '.join(f'{name} was {former.get(name)} and is {settings.get(name)}' for name in differing)
                raise FileExistsError(f'{self.folder} holds a run that was broken off, with other settings: {shown}. '
                                      'Fix: repeat it with its own settings to finish it, or add --overwrite to drop '
                                      'it.')
        refuse_existing(self.folder.parent, self._results, overwrite)
        self._remove()
        record = dict(started=time.time(), settings=settings)
        write_atomic(json.dumps(record, indent=1).encode(), self._record)
        return float(record['started'])

    def recorded(self, name: str) -> dict[str, Any] | None:
        """Return what was recorded when something was finished; ``None`` if it was not."""
        path = self._finished(name)
        return json.loads(path.read_bytes()) if path.exists() else None

    def finish(self, name: str, summary: dict[str, Any]) -> None:
        """Record that something is finished, once its results are on disk."""
        write_atomic(json.dumps(summary).encode(), self._finished(name))

    def _finished(self, name: str) -> Path:
        return self.folder / 'finished' / f'{name}.json'

    def unfinished(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that are not finished, the same list in all processes."""
        return on_first(lambda: [name for name in names if not self._finished(name).exists()])

    def __enter__(self) -> 'Run':
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Remove what is needed for continuing, if all is finished, or nothing is."""
        if kind is None:
            dist.barrier()
            on_first(self._remove)
        elif (dist.is_main_process() and [path.name for path in self.folder.iterdir()] == [RECORD]
              and not any(path.exists() for path in self._results)):
            self._remove()
            with suppress(OSError):  # the folder of the results is kept unless it is empty
                self.folder.parent.rmdir()

    def _remove(self) -> None:
        self._record.unlink(missing_ok=True)  # first, so that what is left is never taken for a run
        shutil.rmtree(self.folder, ignore_errors=True)


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share of items that all processes have."""
    rank, number = dist.get_dist_info()
    return items[rank::number]
