"""Prediction of change maps for pairs of rasters."""

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rich.progress import track

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.rasters.blending import Block, Grid, blended_blocks, check_window
from ifn_plugin.apis.rasters.opening import reading_environment
from ifn_plugin.apis.rasters.pair import RasterPair, shrunk
from ifn_plugin.apis.rasters.writing import FULL, NODATA, PROFILE, UnfinishedRaster

NO_DATA = ('have no pixel with data in both dates and in the area of interest, if there is one. Fix: compare their '
           'extents and nodata values (gdalinfo).')


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
                   map_path: str | Path | None = None,
                   probability_path: str | Path | None = None,
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
    check_window(window)
    blocks = blended_blocks(detector, pair, window, window // 4)
    number = len(Grid(pair.height, pair.width, window, window // 4))
    with reading_environment():
        return write_maps(track(blocks, 'Predicting', number), pair, detector.threshold, map_path, probability_path,
                          window, tags)


def write_maps(blocks: Iterable[Block],
               pair: RasterPair,
               threshold: float,
               map_path: str | Path | None,
               probability_path: str | Path | None,
               window: int,
               tags: Mapping[str, str] | None = None,
               may_be_empty: bool = False) -> RasterSummary:
    """Write blocks of probabilities as maps and probabilities.

    Args:
        blocks: The blocks, as from :func:`ifn_plugin.apis.rasters.blended_blocks`.
        pair: The rasters.
        threshold: Probability above which a pixel is "changed".
        map_path: As for :func:`predict_raster`.
        probability_path: As for :func:`predict_raster`.
        window: As for :func:`predict_raster`.
        tags: As for :func:`predict_raster`.
        may_be_empty: Whether files are written even if no pixel has data.

    Returns:
        Summary of the changes.

    Raises:
        OSError: As for :func:`predict_raster`.
        ValueError: As for :func:`predict_raster`.
    """
    # each block covers entire tiles, so that every tile is written once
    tile = math.gcd(window - window // 4, 256)
    profile = dict(PROFILE, width=pair.width, height=pair.height, crs=pair.crs, transform=pair.transform,
                   blockxsize=tile, blockysize=tile)
    points, system = pair.gcps
    if points:
        profile.update(gcps=points, crs=system)
        del profile['transform']
    changed = valid_pixels = 0
    with ExitStack() as stack:
        map_file, probability_file = (
            stack.enter_context(UnfinishedRaster(Path(path), profile, kind, tags)) if path else None
            for kind, path in dict(map=map_path, probability=probability_path).items())
        for place, probability, valid in blocks:
            found = (probability > threshold) & valid
            changed += int(found.sum())
            valid_pixels += int(valid.sum())
            if map_file is not None:
                map_file.write(np.where(valid, found, NODATA).astype(np.uint8), place)
            if probability_file is not None:
                steps = (probability.clip(0, 1) * FULL).round()
                probability_file.write(np.where(valid, steps, NODATA).astype(np.uint8), place)
        if not valid_pixels and not may_be_empty:  # inside the context, so that the unfinished files are removed
            raise ValueError(f'{" and ".join(pair.paths)} {NO_DATA}')
    return RasterSummary(changed, valid_pixels, pair.height * pair.width)


def preview_map(path: Path, side: int = 1024) -> np.ndarray:
    """Read a change map of :func:`predict_raster`, (h, w), uint8, shrunk to at most ``side`` pixels."""
    with rasterio.open(path) as dataset:
        array: np.ndarray = dataset.read(1, out_shape=shrunk(dataset.height, dataset.width, side))
    return array
