"""Seamless blending of overlapping windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rasterio.windows import Window

from ifn_plugin.apis.inferencer import ChangeDetector, read_ahead
from ifn_plugin.apis.rasters.pair import RasterPair

# rasterio's window of a block; its probabilities, (h, w), float32; whether both dates have data there, (h, w), bool
Block = tuple[Any, np.ndarray, np.ndarray]


class WindowAxis:
    """Windows along one axis: their positions, the parts that are used, and the blending weights.

    Windows start at multiples of ``stride``. Where two overlap, their weights sum to 1 and follow half a cosine, except
    in a margin with weight 0, where a window sees too little context. A window that would extend beyond the end is read
    further inside.
    """

    def __init__(self, length: int, window: int, overlap: int) -> None:
        self.length = length
        self.overlap = overlap
        self.stride = window - overlap
        self.window = min(window, length)
        self.number = max(1, -(-(length - overlap) // self.stride))
        margin = overlap // 8
        ramp = np.zeros(overlap, np.float32)
        if overlap:
            places = (np.arange(overlap - 2 * margin) + 0.5) / (overlap - 2 * margin)
            ramp[margin:overlap - margin] = (1 - np.cos(np.pi * places)) / 2
            ramp[overlap - margin:] = 1
        self.ramp = ramp

    def start(self, index: int) -> int:
        """Return the start of the part of a window that is used."""
        return index * self.stride

    def stop(self, index: int) -> int:
        """Return the end of the part of a window that is used."""
        return min(self.start(index) + self.stride + self.overlap, self.length)

    def final(self, index: int) -> int:
        """Return the end of the part that no later window overlaps."""
        return self.length if index == self.number - 1 else self.start(index + 1)

    def read_from(self, index: int) -> int:
        """Return the position at which a window is read."""
        return min(self.start(index), self.length - self.window)

    def weights(self, index: int) -> np.ndarray:
        """Return the weights of the part of a window that is used."""
        weights = np.ones(self.stop(index) - self.start(index), np.float32)
        if index > 0:
            weights[:self.overlap] *= self.ramp[:len(weights)]
        if index < self.number - 1:
            weights[-self.overlap or len(weights):] *= 1 - self.ramp
        return weights


class Grid:
    """Overlapping windows that cover a raster.

    Args:
        height: Height of the raster in pixels.
        width: Its width.
        window: Height and width of the windows in pixels.
        overlap: Overlap of neighbouring windows in pixels, less than half of ``window``.

    Raises:
        ValueError: If ``overlap`` is negative, or not less than half of ``window``.
    """

    def __init__(self, height: int, width: int, window: int, overlap: int) -> None:
        if not 0 <= 2 * overlap < window:
            raise ValueError(f'overlap={overlap}: it has to be from 0 to less than half of window={window}.')
        self.overlap = overlap
        self.width = width
        self.rows, self.columns = (WindowAxis(length, window, overlap) for length in (height, width))

    def __len__(self) -> int:
        """Return the number of windows."""
        return self.rows.number * self.columns.number

    def strip(self) -> np.ndarray:
        """Return an empty strip for what a row of windows adds to the row below it, (overlap, width), float32."""
        return np.zeros((self.overlap, self.width), np.float32)

    def to_read(self, row: int, column: int) -> Any:
        """Return rasterio's window to read."""
        return Window(self.columns.read_from(column), self.rows.read_from(row), self.columns.window, self.rows.window)

    def block(self, row: int, column: int) -> Any:
        """Return rasterio's window of the part that no later window overlaps."""
        top, left = self.rows.start(row), self.columns.start(column)
        return Window(left, top, self.columns.final(column) - left, self.rows.final(row) - top)


def check_window(window: int) -> None:
    """Check that a window and its overlap, a quarter of it, suit the network and the tiles of the files.

    Raises:
        ValueError: If ``window`` is not a positive multiple of 64.
    """
    if window < 64 or window % 64:
        raise ValueError(f'window={window} is invalid. Fix: choose a multiple of 64 (--window), such as 1024.')


def blended_blocks(detector: ChangeDetector, pair: RasterPair, window: int = 1024,
                   overlap: int = 256) -> Iterator[Block]:
    """Predict the probabilities of "changed" in overlapping windows and blend them, block by block from the upper left.

    Args:
        detector: The detector.
        pair: The rasters.
        window: Height and width of the windows in pixels.
        overlap: Overlap of neighbouring windows in pixels, less than half of ``window``.

    Yields:
        rasterio's window of a block; its probabilities, (h, w), float32; and whether both dates have data and it
        lies in the pair's area of interest, (h, w), bool.

    Raises:
        ValueError: If ``overlap`` is negative, or not less than half of ``window``.
    """
    grid = Grid(pair.height, pair.width, window, overlap)
    yield from blend_rows(detector, pair, grid, range(grid.rows.number), grid.strip())


def blend_rows(detector: ChangeDetector, pair: RasterPair, grid: Grid, rows: range,
               below: np.ndarray) -> Iterator[Block]:
    """Predict and blend some rows of windows.

    Args:
        detector: The detector.
        pair: The rasters.
        grid: Their windows.
        rows: The rows of windows.
        below: What the rows above add to the first one, (overlap, width), float32; in the end, what the last row adds
            to the one below it.

    Yields:
        As :func:`blended_blocks`.
    """
    places = [(row, column) for row in rows for column in range(grid.columns.number)]

    def read(place: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray | None, np.ndarray]:
        window = grid.to_read(*place)
        inside = True if pair.interest is None else pair.interest.mask(window)
        if np.any(inside):
            images, valid = pair.read(window)
            valid &= inside  # what lies outside is seen nevertheless, as context
            if valid.any():
                return place, images, valid
        # without data, there is nothing to compute, and no images to keep in memory
        return place, None, np.broadcast_to(False, (window.height, window.width))

    right = np.zeros((0, 0), np.float32)  # weighted overlap of the window on the left
    nothing = np.broadcast_to(np.float32(0), (grid.rows.window, grid.columns.window))
    full = False
    for batch in _batches(read_ahead(read, places, detector.batch_size), detector.batch_size):
        wanted = [images for _, images, _ in batch if images is not None]
        found = iter(detector.probabilities(np.stack(wanted), fill_up=full) if wanted else [])
        full = full or len(wanted) == detector.batch_size
        for (row, column), images, valid in batch:
            probability = nothing if images is None else next(found)
            place, window = grid.block(row, column), grid.to_read(row, column)
            inside = (slice(place.row_off - window.row_off, None), slice(place.col_off - window.col_off, None))
            part = probability[inside] * grid.rows.weights(row)[:, None] * grid.columns.weights(column)
            if column > 0:
                part[:, :grid.overlap] += right
            block, right = part[:, :place.width], part[:, place.width:]
            columns = slice(place.col_off, place.col_off + place.width)
            if row > 0:
                block[:grid.overlap] += below[:, columns]
            if row < grid.rows.number - 1:
                below[:, columns] = block[place.height:]
            yield place, block[:place.height], valid[inside][:place.height, :place.width]


def _batches(windows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Group windows, in order, until a group has ``size`` windows with images."""
    batch, wanted = [], 0
    for window in windows:
        batch.append(window)
        wanted += window[1] is not None
        if wanted in (0, size):
            yield batch
            batch, wanted = [], 0
    if batch:
        yield batch
