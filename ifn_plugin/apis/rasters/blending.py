"""Seamless blending of overlapping windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rasterio.windows import Window

from ifn_plugin.apis.inferencer import ChangeDetector, read_ahead
from ifn_plugin.apis.rasters.pair import RasterPair


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


def blended_blocks(detector: ChangeDetector, pair: RasterPair, window: int = 1024,
                   overlap: int = 256) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
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
    if not 0 <= 2 * overlap < window:
        raise ValueError(f'overlap={overlap}: it has to be from 0 to less than half of window={window}.')
    rows, columns = (WindowAxis(length, window, overlap) for length in (pair.height, pair.width))
    places = [(row, column) for row in range(rows.number) for column in range(columns.number)]

    def read(place: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray | None, np.ndarray]:
        row, column = place
        window = Window(columns.read_from(column), rows.read_from(row), columns.window, rows.window)
        inside = True if pair.interest is None else pair.interest.mask(window)
        if not np.any(inside):
            return place, None, np.broadcast_to(False, (rows.window, columns.window))
        images, valid = pair.read(window)
        valid = valid & inside  # what lies outside is seen nevertheless, as context
        # without data, there is nothing to compute, and no images to keep in memory
        return (place, images, valid) if valid.any() else (place, None, np.broadcast_to(False, valid.shape))

    below = np.zeros((overlap, pair.width), np.float32)  # weighted overlap of the row of windows above
    right = np.zeros((0, 0), np.float32)  # weighted overlap of the window on the left
    nothing = np.broadcast_to(np.float32(0), (rows.window, columns.window))
    full = False
    for batch in _batches(read_ahead(read, places, detector.batch_size), detector.batch_size):
        wanted = [images for _, images, _ in batch if images is not None]
        found = iter(detector.probabilities(np.stack(wanted), fill_up=full) if wanted else [])
        full = full or len(wanted) == detector.batch_size
        for (row, column), images, valid in batch:
            probability = nothing if images is None else next(found)
            top, left = rows.start(row), columns.start(column)
            inside = (slice(top - rows.read_from(row), None), slice(left - columns.read_from(column), None))
            part = probability[inside] * rows.weights(row)[:, None] * columns.weights(column)
            if column > 0:
                part[:, :overlap] += right
            height, width = rows.final(row) - top, columns.final(column) - left
            block, right = part[:, :width], part[:, width:]
            if row > 0:
                block[:overlap] += below[:, left:left + width]
            if row < rows.number - 1:
                below[:, left:left + width] = block[height:]
            yield (Window(left, top, width, height),
                   block[:height], valid[inside][:height, :width])


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
