"""GeoTIFFs that are written whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling

from ifn_plugin.fileio import unfinished_path

# Of the written rasters: no data in one of the dates
NODATA = 255
# A probability of 1 in the written rasters
FULL = 254
PROFILE = dict(driver='GTiff', dtype='uint8', count=1, nodata=NODATA, tiled=True, compress='deflate',
               bigtiff='if_safer')


class UnfinishedRaster:
    """A raster that takes its name when it is finished, overviews included, and can be read."""

    def __init__(self, path: Path, profile: dict[str, Any]) -> None:
        self.path = path
        # a folder, since GDAL writes further files beside
        self.folder = unfinished_path(path)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.unfinished = self.folder / 'map.tif'
        # what GeoTIFF has no place for
        self.beside = [file.with_name(f'{file.name}.aux.xml') for file in (self.unfinished, path)]
        self.dataset = rasterio.open(self.unfinished, 'w', **profile)

    def write(self, block: np.ndarray, window: Any) -> None:
        """Write a block of the only band."""
        with writing(self.path):
            self.dataset.write(block, 1, window=window)

    def __enter__(self) -> 'UnfinishedRaster':
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            # after an error, that one is to be told, not those of closing what it left
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
        # GDAL does not say when the last blocks find no room: only reading tells
        for level in (None, *range(len(factors))):
            with rasterio.open(self.unfinished, **{} if level is None else dict(overview_level=level)) as dataset:
                for _, window in dataset.block_windows(1):
                    dataset.read(1, window=window)
        # what belongs to the former one: statistics, overviews or a mask that others made
        for file in (self.beside[1], *(self.path.with_name(f'{self.path.name}.{kind}') for kind in ('ovr', 'msk'))):
            file.unlink(missing_ok=True)
        if self.beside[0].exists():
            self.beside[0].replace(self.beside[1])
        self.unfinished.replace(self.path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of errors which file could not be written."""
    try:
        yield
    except Exception as error:  # GDAL's errors have private classes in rasterio; pyogrio's are others
        raise OSError(f'{path} could not be written: {" ".join(str(error.__cause__ or error).split())}. Is the disk '
                      'full? What was there before is still there.') from error
