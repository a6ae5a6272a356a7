"""Atomic writing of GeoTIFFs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling

from ifn_plugin.fileio import unfinished_path

# Nodata value of the written rasters: no data in at least one of the dates
NODATA = 255
# Value of a probability of 1 in the written rasters
FULL = 254
PROFILE = dict(driver='GTiff', dtype='uint8', count=1, nodata=NODATA, tiled=True, compress='deflate',
               bigtiff='if_safer')


class UnfinishedRaster:
    """GeoTIFF that is moved to its path once it is complete, overviews included, and has been read back.

    Args:
        path: Output file.
        profile: rasterio's profile of the raster.
    """

    def __init__(self, path: Path, profile: dict[str, Any]) -> None:
        self.path = path
        # a folder, since GDAL writes sidecar files
        self.folder = unfinished_path(path)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.unfinished = self.folder / 'map.tif'
        # sidecar files hold what GeoTIFF cannot store
        self.beside = [file.with_name(f'{file.name}.aux.xml') for file in (self.unfinished, path)]
        self.dataset = rasterio.open(self.unfinished, 'w', **profile)

    def write(self, block: np.ndarray, window: Any) -> None:
        """Write a block of the band, (h, w), to rasterio's window."""
        with writing(self.path):
            self.dataset.write(block, 1, window=window)

    def __enter__(self) -> 'UnfinishedRaster':
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            # after an error, errors of closing the file must not hide it
            with writing(self.path) if kind is None else suppress(Exception):
                self.dataset.close()
                if kind is None:
                    self._finish()
        finally:
            shutil.rmtree(self.folder)

    def _finish(self) -> None:
        with rasterio.open(self.unfinished, 'r+') as dataset:
            factors = [2**power for power in range(1, 16) if max(dataset.shape) >> power >= 256]
            if factors:
                dataset.build_overviews(factors, Resampling.nearest)
        # GDAL does not report a full disk when it flushes the last blocks: read them back
        for level in (None, *range(len(factors))):
            with rasterio.open(self.unfinished, **{} if level is None else dict(overview_level=level)) as dataset:
                for _, window in dataset.block_windows(1):
                    dataset.read(1, window=window)
        # remove sidecar files of the former raster: statistics, overviews or masks from other software
        for file in (self.beside[1], *(self.path.with_name(f'{self.path.name}.{kind}') for kind in ('ovr', 'msk'))):
            file.unlink(missing_ok=True)
        if self.beside[0].exists():
            self.beside[0].replace(self.beside[1])
        self.unfinished.replace(self.path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors in the body into an ``OSError`` that names the file."""
    try:
        yield
    except Exception as error:  # rasterio's classes of GDAL's errors are private, and pyogrio has its own
        raise OSError(f'{path} could not be written: {" ".join(str(error.__cause__ or error).split())}. Is the disk '
                      'full? An existing file was kept.') from error
