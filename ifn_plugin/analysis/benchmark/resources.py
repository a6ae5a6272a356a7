"""Measurement of time and memory, and control of the page cache."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.utils.dl_utils import collect_env

from ifn_plugin.engine.memory import release_memory


def describe_machine() -> dict[str, Any]:
    """Return what a result records of the machine: its ``device``, and its ``environment`` as mmengine collects it."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'
    return dict(device=device, environment={key: str(value) for key, value in collect_env().items()})


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds that a function takes, until the device has finished its work."""
    if get_device() == 'cuda':
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        function()
        events[1].record()
        torch.cuda.synchronize()
        milliseconds: float = events[0].elapsed_time(events[1])
        return milliseconds / 1000
    begin = time.perf_counter()
    function()
    if get_device() == 'mps':
        torch.mps.synchronize()
    return time.perf_counter() - begin


def reset_peak_memory() -> None:
    """Reset the count of :func:`peak_memory`, where the system supports it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == 'linux':
        Path('/proc/self/clear_refs').write_text('5')


def peak_memory() -> int:
    """Return the peak memory in bytes: of the tensors on a GPU, or else of the process, libraries included."""
    if torch.cuda.is_available():
        peak: int = torch.cuda.max_memory_allocated()
        return peak
    if sys.platform == 'linux':
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))
    if sys.platform == 'win32':
        import psutil
        return int(psutil.Process().memory_info().peak_wset)
    import resource
    # counts from the start of the process; in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory() -> None:
    """Free unused memory, reference cycles of accelerated models included."""
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def drop_from_page_cache(root: Path) -> None:
    """Drop a data set from the system's page cache, so that it is read from disk again.

    Raises:
        OSError: If the system has no call for it.
    """
    if not hasattr(os, 'posix_fadvise'):
        raise OSError(f'{sys.platform} cannot drop files from its page cache. Fix: leave out --cold-data.')
    for path in root.rglob('*'):
        if path.is_file():
            with path.open('rb') as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
