"""Parts of a raster: rows of windows that are predicted, stored and joined independently of each other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.rasters.blending import Block, Grid, blend_rows
from ifn_plugin.apis.rasters.pair import RasterPair
from ifn_plugin.fileio import atomic_path

# A part has at least so many batches, since its last one may be smaller
BATCHES = 8


def split_rows(grid: Grid, batch_size: int) -> list[range]:
    """Split the rows of windows into parts, by the size of the batches and nothing else."""
    number = -(-BATCHES * batch_size // grid.columns.number)
    return [range(first, min(first + number, grid.rows.number)) for first in range(0, grid.rows.number, number)]


def store_part(detector: ChangeDetector, pair: RasterPair, grid: Grid, rows: range, path: Path) -> None:
    """Predict a part and store it, unless it is stored already."""
    if not path.exists():
        for _ in _predict(detector, pair, grid, rows, grid.strip(), path):
            pass


def joined_blocks(detector: ChangeDetector, pair: RasterPair, grid: Grid, folder: Path | None) -> Iterator[Block]:
    """Join the parts of a raster: stored ones are read, others are predicted and stored.

    Args:
        detector: The detector.
        pair: The rasters.
        grid: Their windows.
        folder: The folder of the stored parts. If ``None``, nothing is stored.

    Yields:
        As :func:`ifn_plugin.apis.rasters.blended_blocks`, the same to the bit in whatever processes the parts were
        predicted.
    """
    above = grid.strip()
    for number, rows in enumerate(split_rows(grid, detector.batch_size)):
        path = None if folder is None else part_path(folder, number)
        below = grid.strip()
        if path is not None and path.exists():
            blocks = _read(grid, rows, below, path)
        else:
            blocks = _predict(detector, pair, grid, rows, below, path)
        for place, probability, valid in blocks:
            if number > 0 and place.row_off == grid.rows.start(rows.start):
                probability[:grid.overlap] += above[:, place.col_off:place.col_off + place.width]
            yield place, probability, valid
        above = below


def part_path(folder: Path, number: int) -> Path:
    """Return the file of a stored part."""
    return folder / f'{number}.part'


def _predict(detector: ChangeDetector, pair: RasterPair, grid: Grid, rows: range, below: np.ndarray,
             path: Path | None) -> Iterator[Block]:
    """Predict a part as if there were nothing above it, and store it: its blocks, NaN without data, and ``below``."""
    blocks = blend_rows(detector, pair, grid, rows, below)
    if path is None:
        yield from blocks
        return
    with atomic_path(path) as unfinished, unfinished.open('wb') as file:
        for place, probability, valid in blocks:
            file.write(np.where(valid, probability, np.float32(np.nan)).tobytes())
            yield place, probability, valid
        file.write(below.tobytes())


def _read(grid: Grid, rows: range, below: np.ndarray, path: Path) -> Iterator[Block]:
    """Read a stored part."""
    with path.open('rb') as file:
        for row in rows:
            for column in range(grid.columns.number):
                place = grid.block(row, column)
                stored = np.fromfile(file, np.float32, place.height * place.width).reshape(place.height, place.width)
                valid = ~np.isnan(stored)
                stored[~valid] = 0
                yield place, stored, valid
        below[:] = np.fromfile(file, np.float32, below.size).reshape(below.shape)
