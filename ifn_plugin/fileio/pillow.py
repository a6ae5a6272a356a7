"""Pillow without its limit on the size of images."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image


@contextmanager
def any_size() -> Iterator[None]:
    """Open images of any size with Pillow: its limit guards against files from strangers, not against large images."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
