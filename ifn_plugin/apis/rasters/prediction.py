"""Prediction of change maps for pairs of rasters."""

import math
from collections.abc import Mapping
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
    """Summary of the changes in a pair of rasters.

    Attributes:
        changed: Number of changed pixels.
        valid: Number of pixels with data in both dates.
        total: Number of pixels.
        areas: Number of changed areas, if they were written as polygons.
    """

    changed: int
    valid: int
    total: int
    areas: int | None = None


def predict_raster(detector: ChangeDetector,
                   pair: RasterPair,
                   map_path: Path | None = None,
                   probability_path: Path | None = None,
                   window: int = 1024,
                   tags: Mapping[str, str] | None = None) -> RasterSummary:
    """Predict the changes between two rasters of any size, in constant memory, and write them as GeoTIFF files.

    They are cloud-optimized, with colours, and with a style for QGIS beside them.

    Args:
        detector: The detector.
        pair: The rasters.
        map_path: Output file for the change map: 1 is changed, 0 unchanged, 255 nodata in at least one of the dates.
        probability_path: Output file for the probabilities in steps of 1/254; 255 is nodata.
        window: Height and width of the windows in pixels, a multiple of 64; they overlap by a quarter.
        tags: Tags of the files, such as :func:`ifn_plugin.apis.rasters.describe_run` gives.

    Returns:
        Summary of the changes.

    Raises:
        OSError: If a file cannot be written; an existing one is kept.
        ValueError: If ``window`` is not a positive multiple of 64, or no pixel has data in both dates; existing files
            are kept.
    """
    if window < 64 or window % 64:
        raise ValueError(f'window={window}: a multiple of 64 is needed.')
    overlap = window // 4
    # each block covers entire tiles, so that every tile is written once
    tile = math.gcd(window - overlap, 256)
    profile = dict(PROFILE, width=pair.width, height=pair.height, crs=pair.crs, transform=pair.transform,
                   blockxsize=tile, blockysize=tile)
    points, system = pair.gcps
    if points:
        profile.update(gcps=points, crs=system)
        del profile['transform']
    changed = valid_pixels = 0
    # a small cache is enough: pixels are read at most a few times, shortly after each other
    with rasterio.Env(GDAL_CACHEMAX=64 * 2**20), ExitStack() as stack, Progress() as progress:
        task = progress.add_task('Predicting', total=pair.height * pair.width)
        map_file, probability_file = (
            stack.enter_context(UnfinishedRaster(path, profile, kind, tags)) if path else None
            for kind, path in dict(map=map_path, probability=probability_path).items())
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
        if not valid_pixels:  # raised inside the context, so that the unfinished files are removed
            raise ValueError(f'{" and ".join(pair.paths)} have no pixel with data in both dates. Fix: compare their '
                             'extents and nodata values (gdalinfo).')
    return RasterSummary(changed, valid_pixels, pair.height * pair.width)


def preview_map(path: Path, side: int = 1024) -> np.ndarray:
    """Read a change map of :func:`predict_raster`, (h, w), uint8, shrunk to at most ``side`` pixels."""
    with rasterio.open(path) as dataset:
        array: np.ndarray = dataset.read(1, out_shape=shrunk(dataset.height, dataset.width, side))
    return array
