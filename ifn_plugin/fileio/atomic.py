"""Atomic writes: a file or a folder is there as a whole or not at all."""

import errno
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def unfinished_path(path: Path) -> Path:
    """Name what is being written, beside what it will become.

    The name follows from the other, so that the next run clears away what a killed one left. It keeps the suffix, by
    which libraries choose a format, and at most 101 bytes, since a disk may allow no more than the final name's.

    Args:
        path: The final path.

    Returns:
        Another path in the same folder.
    """
    return path.with_name(f'unfinished-{zlib.crc32(os.fsencode(path.name)):08x}-{path.name[-20:]}')


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file or a folder, all of it or nothing.

    Args:
        path: The final path, whose folder is made. A former file there stays until the new one is on the disk.

    Yields:
        The path to write to. It takes the final name at the end of the block; after an error, it is removed.

    Raises:
        OSError: If the disk is full, with what to do.
    """
    unfinished = unfinished_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(unfinished)
    try:
        yield unfinished
        if not unfinished.is_dir():
            with unfinished.open('rb+') as file:
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno, f'The disk is full: {path} could not be written. What was saved before is intact. Fix: free '
            'space and run the command again, a training with --resume.') from error
    finally:
        _remove(unfinished)


def write_atomic(content: bytes, path: Path) -> None:
    """Write a file, all of it or nothing, as :func:`atomic_path` does."""
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
