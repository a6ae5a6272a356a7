"""Records of a data set check: pairs, splits and findings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ifn_plugin.datasets import LoadChangeLabel, LoadPair

# Files of both dates and the label of a pair, or their folders
Trio = tuple[Path, Path, Path]


@dataclass
class Finding:
    """Finding of a check.

    Attributes:
        split: Name of the split, or of several.
        error: Whether training on the data would fail or give wrong results; otherwise the finding is a note.
        message: Description, with the file.
        pairs: Files of the pairs concerned, for pictures.
    """

    split: str
    error: bool
    message: str
    pairs: list[Trio] = field(default_factory=list)


@dataclass
class Pair:
    """Statistics and thumbnails of a pair that was read.

    Attributes:
        files: Files of both dates and the label.
        size: Height and width.
        changed: Share of the labelled pixels that are changed, 0 to 1.
        labelled: Number of labelled pixels.
        values: Values in the label's file.
        moments: Mean of each channel over both dates' labelled pixels, and mean of its square, (2, C).
        thumbnails: Greyscale thumbnails of both dates, (2, 32, 32).
        inverted: Whether the label has a colour table in which 0 is lighter than the rest.
        identical: Whether both dates are the same image.
    """

    files: Trio
    size: tuple[int, int]
    changed: float
    labelled: int
    values: tuple[int, ...]
    moments: np.ndarray
    thumbnails: np.ndarray
    inverted: bool = False
    identical: bool = False


@dataclass
class Split:
    """Split of a data set.

    Attributes:
        name: Name of the split.
        folders: Folders of both dates and the label.
        part_of: Name of the part that it belongs to, such as ``train``, which may consist of several data sets.
        suffixes: Endings of the file names of both dates and of the labels; ``None`` for any.
        ann_file: List of the pairs of the split; ``None`` for all.
        indices: Selection from the pairs, as in mmengine's data sets; ``None`` for all.
        loaders: Loaders of the dates and of the label.
        stock_loader: Name of open-cd's or mmseg's label loader, if the configuration has one.
        pairs: Pairs that were read; set by :func:`check_split`.
        files: Number of files in each folder; set by :func:`check_split`.
    """

    name: str
    folders: Trio
    part_of: str
    suffixes: tuple[str | None, str | None, str | None] = (None, None, None)
    ann_file: Path | None = None
    indices: int | Sequence[int] | None = None
    loaders: tuple[LoadPair, LoadChangeLabel] = field(default_factory=lambda: (LoadPair(), LoadChangeLabel()))
    stock_loader: str = ''
    pairs: list[Pair] = field(default_factory=list)
    files: tuple[int, ...] = (0, 0, 0)
