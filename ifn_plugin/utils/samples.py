"""Helpers for samples of data sets."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def sample_files(img_path: str | Path | Sequence[str | Path] | None) -> list[str]:
    """List the image files of a sample; ``img_path`` may be a single file, as with a loader of stacked dates."""
    return [os.fspath(file) for file in ([img_path] if isinstance(img_path, (str, Path)) else img_path or [])]


def pair_files(sample: Any) -> list[str | None]:
    """List the image files of a sample and that of its label, ``None`` if there is none."""
    label = sample_files(sample.get('seg_map_path'))
    return [*sample_files(sample.get('img_path')), label[0] if label else None]
