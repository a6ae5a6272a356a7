"""Atomic writes: a file or folder appears complete or not at all."""

import errno
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def unfinished_path(path: Path) -> Path:
    """Return the temporary path of a file or folder that is being written.

    It is derived from the final path, so that the next run removes what a killed one left behind. It keeps the suffix,
    from which libraries infer the format, and its name has at most 101 bytes, since file systems limit the length.

    Args:
        path: The final path.

    Returns:
        A path in the same folder.
    """
    return path.with_name(f'unfinished-{zlib.crc32(os.fsencode(path.name)):08x}-{path.name[-20:]}')


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file or folder atomically.

    Args:
        path: The final path; its parent folder is created. An existing file stays until the new one is on disk.

    Yields:
        The path to write to. It is renamed to the final path at the end of the block, and removed after an error.

    Raises:
        FileNotFoundError: If what was written is gone, since another process writes the same.
        OSError: If the disk is full; the message says what to do.
    """
    unfinished = unfinished_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(unfinished)
    try:
        yield unfinished
        if not unfinished.exists():
            raise FileNotFoundError(errno.ENOENT, f'{path} could not be written, since {unfinished.name} is gone: does '
                                    'another process write into this folder? Fix: give each its own')
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
    """Write a file atomically, as :func:`atomic_path` does."""
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
