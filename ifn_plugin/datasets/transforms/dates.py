"""Access to the dates of a sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def get_dates(results: dict[str, Any], transform: Any) -> Sequence[np.ndarray]:
    """Return the images of both dates for a transform of pairs.

    Args:
        results: The sample.
        transform: The transform, for messages.

    Raises:
        ValueError: If there is one image instead, as from mmseg's ``LoadImageFromFile`` or after ``ConcatDates``.
    """
    images = results['img']
    if not isinstance(images, (list, tuple)):
        raise ValueError(f'{type(transform).__name__} needs both dates, img=[date 1, date 2], but img is one '
                         f'{type(images).__name__} {getattr(images, "shape", "")}. Fix: begin the pipeline with '
                         'ifn_plugin.LoadPair, and put this step before ifn_plugin.ConcatDates.')
    return images


class PairPaths(list[str]):
    """The two files of a pair, date 1's first, usable as a single path: date 2's.

    mmseg's metrics with ``output_dir`` name their results by it.
    """

    def __fspath__(self) -> str:
        return self[-1]
