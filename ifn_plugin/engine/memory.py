"""Control of how glibc handles freed memory."""

import ctypes
import gc
import sys
from collections.abc import Callable


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == 'linux' else None


def keep_freed_memory() -> None:
    """Let the process keep freed memory for reuse, instead of returning it to the system. Only with glibc."""
    mallopt = _glibc('mallopt')
    if mallopt is not None:
        # from malloc.h: no separate mappings for large blocks (M_MMAP_MAX), no trimming of the heap (M_TRIM_THRESHOLD)
        mallopt(-4, 0)
        mallopt(-1, -1)


def release_memory() -> None:
    """Return unused memory to the system, that of reference cycles included."""
    gc.collect()
    malloc_trim = _glibc('malloc_trim')
    if malloc_trim is not None:
        malloc_trim(0)
