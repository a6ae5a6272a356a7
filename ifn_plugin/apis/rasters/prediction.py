"""Change maps of pairs of rasters."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rich.progress import Progress

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.rasters.blending import blended_blocks
from ifn_plugin.apis.rasters.pair import RasterPair, shrunk
from ifn_plugin.apis.rasters.writing import FULL, NODATA, PROFILE, UnfinishedRaster


@dataclass(frozen=True)
class RasterSummary:
    """What was found in a pair of rasters.

    Attributes:
        changed: Pixels that are changed.
        valid: Pixels with data in both dates.
        total: All pixels.
        areas: Changed areas, where they were written as polygons.
    """

    changed: int
    valid: int
    total: int
    areas: int | None = None


def predict_raster(detector: ChangeDetector,
                   pair: RasterPair,
                   map_path: Path | None = None,
                   probability_path: Path | None = None,
                   window: int = 1024) -> RasterSummary:
    """Find the changes between two rasters of any size, in flat memory, and write them as GeoTIFF.

    Args:
        detector: The detector.
        pair: The rasters.
        map_path: File for the change map: 1 is changed, 0 unchanged, 255 without data in one of the dates.
        probability_path: File for the probabilities in steps of 1/254, 255 without data.
        window: Side of the windows, a multiple of 64 pixels; they overlap by a quarter.

    Returns:
        How many pixels are changed.

    Raises:
        OSError: If a file cannot be written; what was there before is kept.
        ValueError: For another ``window``, or if no pixel has data in both dates; what was there before is kept.
    """
    if window < 64 or window % 64:
        raise ValueError(f'window={window}: a multiple of 64 is needed.')
    overlap = window // 4
    # blocks that are whole tiles, each written once
    tile = math.gcd(window - overlap, 256)
    profile = dict(PROFILE, width=pair.width, height=pair.height, crs=pair.crs, transform=pair.transform,
                   blockxsize=tile, blockysize=tile)
    points, system = pair.gcps
    if points:
        profile.update(gcps=points, crs=system)
        del profile['transform']
    changed = valid_pixels = 0
    # a small cache: each pixel is read once or twice, soon after another
    with rasterio.Env(GDAL_CACHEMAX=64 * 2**20), ExitStack() as stack, Progress() as progress:
        task = progress.add_task('Predicting', total=pair.height * pair.width)
        map_file, probability_file = (stack.enter_context(UnfinishedRaster(path, profile)) if path else None
                                      for path in (map_path, probability_path))
        if probability_file is not None:
            probability_file.dataset.scales = (1 / FULL, )
        for place, probability, valid in blended_blocks(detector, pair, window, overlap):
            found = (probability > detector.threshold) & valid
            changed += int(found.sum())
            valid_pixels += int(valid.sum())
            if map_file is not None:
                map_file.write(np.where(valid, found, NODATA).astype(np.uint8), place)
            if probability_file is not None:
                steps = (probability.clip(0, 1) * FULL).round()
                probability_file.write(np.where(valid, steps, NODATA).astype(np.uint8), place)
            progress.advance(task, probability.size)
        if not valid_pixels:  # in here, so that no map is left
            raise ValueError(f'{" and ".join(pair.paths)} have no pixel with data in both dates. Compare where '
                             'they lie and their no-data values (gdalinfo).')
    return RasterSummary(changed, valid_pixels, pair.height * pair.width)


def preview_map(path: Path, side: int = 1024) -> np.ndarray:
    """A change map of :func:`predict_raster`, shrunk to a side, (h, w), uint8."""
    with rasterio.open(path) as dataset:
        array: np.ndarray = dataset.read(1, out_shape=shrunk(dataset.height, dataset.width, side))
    return array
