"""Pillow without its limit on the size of images."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from PIL import Image

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
