"""What a check knows of a data set, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ifn_plugin.datasets import LoadChangeLabel, LoadPair

# Both dates and the label of a pair, or the folders of these
Trio = tuple[Path, Path, Path]


@dataclass
class Finding:
    """Something wrong.

    Attributes:
        split: Where.
        error: Whether training on it would fail or mislead; otherwise it is only worth knowing.
        message: What.
        pairs: The files of the pairs concerned, for pictures.
    """

    split: str
    error: bool
    message: str
    pairs: list[Trio] = field(default_factory=list)


@dataclass
class Pair:
    """A pair that could be read.

    Attributes:
        files: Both dates and the label.
        size: Height and width.
        changed: Share of the labelled pixels that are changed.
        labelled: Number of these.
        values: Values in the label's file.
        moments: Mean of each channel over both dates' labelled pixels, and mean of its square, (2, C).
        thumbnails: Both dates, small and grey, (2, 32, 32).
        inverted: Whether the label has a colour table in which 0 is lighter than the rest.
    """

    files: Trio
    size: tuple[int, int]
    changed: float
    labelled: int
    values: tuple[int, ...]
    moments: np.ndarray
    thumbnails: np.ndarray
    inverted: bool = False


@dataclass
class Split:
    """A split.

    Attributes:
        name: Its name.
        folders: Of both dates and the label.
        part_of: What it is used for; several data sets together may be what is trained on.
        suffixes: How the names of both dates and of the labels end; ``None`` for any.
        ann_file: A list of the pairs that belong to it; ``None`` for all.
        indices: Which of these, as mmengine's data sets have it; ``None`` for all.
        loaders: Of the dates and of the label.
        stock_loader: What loads the labels in the configuration, if it is another project's.
        pairs: What could be read.
        files: Number of files in each folder.
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
