"""Change maps that a test keeps, so that pictures and scores of a report are of one evaluation."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ifn_plugin.evaluation.thresholds import LEVELS
from ifn_plugin.fileio import any_size, write_png

# Folder of the maps in a test's log folder
MAPS = 'maps'


def level_of(probability: Tensor) -> np.ndarray:
    """Return the number of ``LEVELS`` below each probability, uint8.

    A pixel is above ``LEVELS[i]`` where the number is above ``i``, exactly.
    """
    levels: np.ndarray = torch.bucketize(probability, LEVELS.to(probability.device)).to(torch.uint8).cpu().numpy()
    return levels


def level_index(threshold: float) -> int:
    """Return the index of the lowest of ``LEVELS`` that is not below a threshold."""
    return min(int(torch.searchsorted(LEVELS, torch.tensor(threshold))), len(LEVELS) - 1)


def map_name(files: Sequence[str | None]) -> str:
    """Return the file name of a pair's map, which pairs of the same name in different folders do not share."""
    text = '\0'.join(map(str, files)).encode(errors='surrogateescape')
    stem = Path(str(files[0])).stem.encode(errors='replace').decode()
    return f'{stem[-60:]}-{zlib.crc32(text):08x}.png'


def write_map(path: Path, probability: Tensor, label: Tensor) -> None:
    """Write the probabilities of a pair in steps of ``LEVELS``, and its label, as a PNG of two channels.

    Args:
        path: The file.
        probability: (H, W).
        label: (H, W): 1 is "changed", 0 is "unchanged", and all other values are ignored.
    """
    truth = torch.where((label == 0) | (label == 1), label, 255).to(torch.uint8).cpu().numpy()
    write_png(Image.merge('LA', (Image.fromarray(level_of(probability)), Image.fromarray(truth))), path)


def read_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what :func:`write_map` has written.

    Returns:
        Levels and label (0, 1, and 255 for ignored pixels), each (H, W), uint8.
    """
    with any_size(), Image.open(path) as image:
        levels, label = image.split()
        return np.asarray(levels), np.asarray(label)


def count_levels(levels: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Count the pixels of each level, (2, 256): of those labelled "unchanged", and of those labelled "changed"."""
    return np.stack([np.bincount(levels[label == value], minlength=256) for value in (0, 1)])
