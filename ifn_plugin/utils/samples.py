"""Helpers for samples of data sets."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def sample_files(img_path: str | Path | Sequence[str | Path] | None) -> list[str]:
    """List the image files of a sample; ``img_path`` may be a single file, as with a loader of stacked dates."""
    return [os.fspath(file) for file in ([img_path] if isinstance(img_path, (str, Path)) else img_path or [])]


def absolute(file: str | Path) -> str:
    """Return the absolute path of a file, which names it in any working folder; URLs are returned as they are."""
    # not resolve, which names what a link leads to, nor absolute, which leaves the dots of ../data
    return str(file) if '://' in str(file) else os.path.abspath(file)  # noqa: PTH100


def pair_files(sample: Any) -> list[str | None]:
    """List the absolute paths of a sample's images and of its label, ``None`` if there is none."""
    label = sample_files(sample.get('seg_map_path'))
    return [*map(absolute, sample_files(sample.get('img_path'))), absolute(label[0]) if label else None]
