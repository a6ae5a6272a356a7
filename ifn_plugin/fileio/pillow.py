"""Pillow without its limit on the size of images, and PNG files that are written atomically."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from mmengine.dist import get_rank
from PIL import Image

from ifn_plugin.fileio.atomic import unfinished_path, write_atomic

_lock = Lock()
_limits: list[int | None] = []  # of Pillow, one for each context that is open, since threads share the limit


@contextmanager
def any_size() -> Iterator[None]:
    """Open images of any size with Pillow: its limit guards against files from strangers, not against large images."""
    with _lock:
        _limits.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            limit = _limits.pop()
            if not _limits:
                Image.MAX_IMAGE_PIXELS = limit


def write_png(image: Image.Image, path: Path) -> None:
    """Write an image atomically, even if several processes write the same: a sampler gives some pairs to two of them.

    Args:
        image: The image.
        path: The file; its parent folder is created.
    """
    stream = io.BytesIO()
    image.save(stream, 'PNG', compress_level=1)
    own = path.with_name(f'{get_rank()}-{unfinished_path(path).name}')
    write_atomic(stream.getvalue(), own)
    own.replace(path)
