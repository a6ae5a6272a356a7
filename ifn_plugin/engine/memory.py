"""Freed memory of a CPU's process."""

import ctypes
import gc
import sys
from collections.abc import Callable


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == 'linux' else None


def keep_freed_memory() -> None:
    mallopt = _glibc('mallopt')
    if mallopt is not None:
        # malloc.h: no block of its own from the system (M_MMAP_MAX), and none back to it (M_TRIM_THRESHOLD)
        mallopt(-4, 0)
        mallopt(-1, -1)


def release_memory() -> None:
    """Give back to the system what is not in use, circles of objects included."""
    gc.collect()
    malloc_trim = _glibc('malloc_trim')
    if malloc_trim is not None:
        malloc_trim(0)
