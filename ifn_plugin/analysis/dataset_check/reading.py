"""Listing and reading of a split's files."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from ifn_plugin.analysis.dataset_check.records import Pair, Split, Trio
from ifn_plugin.analysis.pairs import load_pair
from ifn_plugin.datasets import LoadChangeLabel, LoadPair
from ifn_plugin.datasets.levircd import list_images, read_names
from ifn_plugin.datasets.transforms.decoding import read_indices

THUMBNAIL = 32


@dataclass
class Listing:
    """Files of a split.

    Attributes:
        files: Files of both dates and of the label, by the pair's name.
        names: Names of all expected pairs, before ``indices`` selects from them.
    """

    files: tuple[dict[str, Path], dict[str, Path], dict[str, Path]]
    names: list[str]

    def trios(self, indices: int | Sequence[int] | None) -> list[Trio]:
        """Return the files of the complete pairs that ``indices`` selects."""
        names = self.names
        if isinstance(indices, int):
            names = names[:indices] if indices >= 0 else names[indices:]
        elif indices is not None:
            names = [names[index] for index in indices if -len(names) <= index < len(names)]
        date1, date2, label = self.files
        return [(date1[name], date2[name], label[name]) for name in names if self.is_complete(name)]

    def is_complete(self, name: str) -> bool:
        """Return whether all three files of a pair exist."""
        return all(name in files for files in self.files)


def list_split(split: Split) -> Listing:
    """List the files of a split, and set its ``files``.

    Raises:
        ValueError: If a folder is missing, or the list of pairs cannot be read.
    """
    for folder in split.folders:
        if not folder.is_dir():
            raise ValueError(f'{folder}: no such folder.')
    date1, date2, label = map(list_images, split.folders, split.suffixes)
    split.files = (len(date1), len(date2), len(label))
    if split.ann_file is None:
        return Listing((date1, date2, label), sorted({*date1, *date2, *label}))
    try:
        return Listing((date1, date2, label), read_names(split.ann_file, date1, split.suffixes[0]))
    except (OSError, ValueError) as error:
        raise ValueError(f'{split.ann_file}, the list of its pairs, cannot be read: {error}') from error


def read_pairs(split: Split, listing: Listing) -> Iterator[Pair | str]:
    """Read the pairs of a split in parallel.

    Yields:
        For each pair, the pair or the reason why it cannot be read.
    """
    trios = listing.trios(split.indices)
    with ThreadPoolExecutor() as pool:
        yield from track(pool.map(partial(read_pair, split.loaders), trios), f'Reading {split.name}', len(trios))


def read_pair(loaders: tuple[LoadPair, LoadChangeLabel], trio: Trio) -> Pair | str:
    """Read a pair, or return the reason why it cannot be read."""
    try:
        *dates, label = load_pair(trio, *loaders)
    except (OSError, ValueError) as error:
        return str(error)
    # the values as stored in the file, which the loader has just read without an error; decoded from bytes, since
    # cv2.imread on Windows takes only ASCII names
    raw: Any = label
    inverted = False
    if trio[2].suffix != '.npy':
        content = trio[2].read_bytes()
        raw, inverted = read_indices(content) or (
            cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), False)
    values = tuple(np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist())
    counted = label != 255
    pictures = (np.ascontiguousarray(loaders[0].picture(date)) for date in dates)
    thumbnails = [cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (THUMBNAIL, THUMBNAIL),
                             interpolation=cv2.INTER_AREA) for picture in pictures]
    labelled = int(counted.sum())
    levels = np.concatenate([date[counted] for date in dates]).astype(np.float32)
    # in double precision: numpy sums long columns row by row, which loses accuracy
    moments = np.stack([power.mean(axis=0, dtype=np.float64) for power in (levels, np.square(levels))]
                       ) if labelled else np.zeros((2, 1))
    return Pair(trio, label.shape, float((label == 1).sum() / max(1, labelled)), labelled, values,
                moments[:, ::-1] if loaders[0].bgr else moments, np.stack(thumbnails), inverted,
                identical=np.array_equal(dates[0], dates[1]))
