"""Tiles of rasters at several scales, from which a web page draws a map."""

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window

from ifn_plugin.apis.rasters.pair import RasterPair
from ifn_plugin.apis.rasters.writing import NODATA, PROFILE, writing
from ifn_plugin.fileio import write_atomic

# Side of a tile in pixels
SIDE = 512
# Tiles of the finest level that is written: 32,768×32,768 pixels, hundreds of megabytes
LARGEST = 4096
LAYERS = ('date1', 'date2', 'probability')


@dataclass
class Tiles:
    """Tiles of the layers ``date1``, ``date2`` and ``probability``, ``LAYER/LEVEL/COLUMN/ROW.webp``.

    Attributes:
        height: Height of the raster in pixels.
        width: Its width.
        levels: Number of levels. Level 0 is one tile, and each further level is twice as fine.
        shrink: Number of the raster's pixels for a pixel of the finest level, along each axis.
        present: ``LEVEL/COLUMN/ROW`` of the tiles that exist, since those without data are not written.
        counts: Number of pixels with each step of the probability, (255,).
        first: First column and first row with data.
        last: Last ones.
    """

    height: int
    width: int
    levels: int
    shrink: int
    present: list[str] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(255, np.int64))
    first: np.ndarray = field(default_factory=lambda: np.full(2, 2**31))
    last: np.ndarray = field(default_factory=lambda: np.zeros(2, int))


def write_pictures(pair: RasterPair, probability: Path, paths: Sequence[Path],
                   show: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write both dates of a pair as RGB, masked where there is no probability.

    Args:
        pair: The rasters.
        probability: Their probability, as :func:`ifn_plugin.apis.rasters.predict_raster` writes it.
        paths: GeoTIFF to write of each date.
        show: Turns what ``pair`` reads of a date into RGB, (H, W, 3), uint8.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If a file is damaged.
    """
    profile = dict(PROFILE, width=pair.width, height=pair.height, crs=pair.crs, transform=pair.transform, count=3,
                   blockxsize=SIDE, blockysize=SIDE, compress='jpeg', photometric='ycbcr', jpeg_quality=95)
    del profile['nodata']
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True))
        steps = stack.enter_context(rasterio.open(probability))
        pictures = {}
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path):
                pictures[path] = stack.enter_context(rasterio.open(path, 'w', **profile))
        for row in range(0, pair.height, 2 * SIDE):
            for column in range(0, pair.width, 2 * SIDE):
                place = Window(column, row, min(2 * SIDE, pair.width - column), min(2 * SIDE, pair.height - row))
                valid = steps.read(1, window=place) != NODATA
                if not valid.any():  # what lies outside an area of interest is not even read
                    continue
                for date, (path, picture) in zip(pair.read(place)[0], pictures.items()):
                    with writing(path):
                        picture.write((show(date) * valid[..., None]).transpose(2, 0, 1), window=place)
                        picture.write_mask(valid, window=place)
        for path, picture in pictures.items():
            with writing(path):
                picture.close()


def write_tiles(dates: Sequence[Path], probability: Path, folder: Path, largest: int = LARGEST) -> Tiles:
    """Write tiles from the finest level up, so that each pixel is read once, in constant memory.

    Args:
        dates: Both dates, as :func:`write_pictures` writes them, or virtual rasters of many.
        probability: The probability, likewise.
        folder: Folder for the tiles.
        largest: Limit of the number of tiles of the finest level that is written.

    Raises:
        OSError: If a file cannot be written.
    """
    with ExitStack() as stack:
        datasets = [stack.enter_context(rasterio.open(path)) for path in (*dates, probability)]
        writer = _TileWriter(datasets, folder, largest)
        writer.write(0, 0, 0)
    return writer.tiles


class _TileWriter:

    def __init__(self, datasets: Sequence[Any], folder: Path, largest: int) -> None:
        self.datasets, self.folder = datasets, folder
        height, width = datasets[-1].shape
        rows, columns = -(-height // SIDE), -(-width // SIDE)
        self.depth = max(rows - 1, columns - 1).bit_length()  # level at which a tile has the raster's own pixels
        shrunk = 0  # levels above it that are not written
        while -(-rows // 2**shrunk) * -(-columns // 2**shrunk) > largest:
            shrunk += 1
        self.tiles = Tiles(height, width, self.depth - shrunk + 1, 2**shrunk)

    def write(self, level: int, column: int, row: int) -> list[np.ndarray] | None:
        """Write a tile and all finer ones below it, and return its layers; ``None`` if there are no data."""
        side = SIDE * 2**(self.depth - level)
        if column * side >= self.tiles.width or row * side >= self.tiles.height:
            return None
        layers = self._read(column, row) if level == self.depth else self._join(level, column, row)
        if layers is None or level >= self.tiles.levels:
            return layers
        self.tiles.present.append(f'{level}/{column}/{row}')
        alpha = np.where(layers[-1] == NODATA, 0, 255).astype(np.uint8)
        for name, layer in zip(LAYERS, layers):
            values = layer.ndim == 2
            colours = np.stack([layer] * 3, -1) if values else layer
            stream = io.BytesIO()
            # without loss, the quality is the effort
            Image.fromarray(np.dstack((colours, alpha))).save(stream, 'WEBP', lossless=values,
                                                              quality=20 if values else 80, method=1)
            write_atomic(stream.getvalue(), self.folder / name / str(level) / str(column) / f'{row}.webp')
        return layers

    def _read(self, column: int, row: int) -> list[np.ndarray] | None:
        left, top = column * SIDE, row * SIDE
        place = Window(left, top, min(SIDE, self.tiles.width - left), min(SIDE, self.tiles.height - top))
        layers = []
        for dataset, filling in zip(self.datasets, (0, 0, NODATA)):
            layer = np.full((SIDE, SIDE, dataset.count), filling, np.uint8)
            layer[:place.height, :place.width] = dataset.read(window=place).transpose(1, 2, 0)
            layers.append(layer)
        layers[-1] = layers[-1][..., 0]
        valid = layers[-1] != NODATA
        if not valid.any():
            return None
        self.tiles.counts += np.bincount(layers[-1][valid], minlength=255)
        rows, columns = (np.flatnonzero(valid.any(axis)) for axis in (1, 0))
        self.tiles.first = np.minimum(self.tiles.first, (left + columns[0], top + rows[0]))
        self.tiles.last = np.maximum(self.tiles.last, (left + columns[-1], top + rows[-1]))
        return layers

    def _join(self, level: int, column: int, row: int) -> list[np.ndarray] | None:
        """Join four tiles of the next level, shrunk by two."""
        half = SIDE // 2
        joined = [np.zeros((SIDE, SIDE, 3), np.uint8) for _ in range(2)] + [np.full((SIDE, SIDE), NODATA, np.uint8)]
        found = False
        for down in range(2):
            for right in range(2):
                layers = self.write(level + 1, 2 * column + right, 2 * row + down)
                if layers is not None:
                    found = True
                    for target, layer in zip(joined, layers):
                        target[down * half:(down + 1) * half, right * half:(right + 1) * half] = _halve(layer)
        return joined if found else None


def _halve(layer: np.ndarray) -> np.ndarray:
    """Shrink a layer by two."""
    half = SIDE // 2
    if layer.ndim == 3:
        return np.asarray(cv2.resize(layer, (half, half), interpolation=cv2.INTER_AREA))
    # the highest probability, so that a small change is seen from afar; no data, 255, counts as the lowest
    highest: np.ndarray = (layer + np.uint8(1)).reshape(half, 2, half, 2).max((1, 3)) - np.uint8(1)
    return highest
