"""Writing of cloud-optimized GeoTIFFs that GIS open with colours, names and provenance."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil

from ifn_plugin.apis.rasters.opening import reading_environment
from ifn_plugin.fileio import unfinished_path

# Nodata value of the written rasters: no data in at least one of the dates
NODATA = 255
# Value of a probability of 1 in the written rasters
FULL = 254
PROFILE = dict(driver='GTiff', dtype='uint8', count=1, nodata=NODATA, tiled=True, compress='deflate',
               bigtiff='if_safer')
STYLES = Path(__file__).parent / 'styles'


@dataclass(frozen=True)
class Kind:
    """How a kind of raster is described and shown.

    Attributes:
        description: Description of the band.
        resampling: GDAL's resampling of the overviews.
        scale: Factor from stored values to those that are meant.
        colours: Colour table: red, green, blue and alpha by value.
    """

    description: str
    resampling: str
    scale: float = 1.
    colours: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)


KINDS = dict(
    # the mode rather than the nearest pixel, which may miss a changed area or show it too large
    map=Kind('change (0 unchanged, 1 changed, 255 no data)', 'mode',
             colours={0: (230, 230, 230, 255), 1: (215, 25, 28, 255), NODATA: (0, 0, 0, 0)}),
    probability=Kind('probability of change', 'average', 1 / FULL))


class UnfinishedRaster:
    """Raster that is written in windows and appears at its path, as :func:`write_cog` writes it, once it is complete.

    Args:
        path: Output file.
        profile: rasterio's profile of the raster.
        kind: ``'map'`` or ``'probability'``.
        tags: Tags of the file.
    """

    def __init__(self, path: Path, profile: dict[str, Any], kind: str, tags: Mapping[str, str] | None = None) -> None:
        self.path, self.kind, self.tags = path, kind, tags
        with ExitStack() as self._stack:
            self.folder = self._stack.enter_context(unfinished_folder(path))
            self.windows = self.folder / 'windows.tif'
            self.dataset = rasterio.open(self.windows, 'w', **profile)
            self._stack = self._stack.pop_all()

    def write(self, block: np.ndarray, window: Any) -> None:
        """Write a block of the band, (h, w), to rasterio's window."""
        with writing(self.path):
            self.dataset.write(block, 1, window=window)

    def __enter__(self) -> 'UnfinishedRaster':
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # after an error, errors of closing the file must not hide it
        with self._stack, writing(self.path) if kind is None else suppress(Exception):
            self.dataset.close()
            if kind is None:
                _read_back(self.windows)
                _write_cog(self.windows, self.path, self.folder, self.kind, self.tags)


def write_cog(source: Path | str, target: Path | str, kind: str, tags: Mapping[str, str] | None = None) -> None:
    """Copy a raster to a cloud-optimized GeoTIFF with overviews, colours, band description and tags, atomically.

    A style for QGIS is written beside it. Memory does not depend on the size of the raster.

    Args:
        source: A raster of one 8-bit band, complete, such as a VRT of many.
        target: File to write.
        kind: ``'map'`` (1 changed, 0 unchanged) or ``'probability'`` (in steps of 1/254); 255 is nodata in both.
        tags: Tags of the file, such as :func:`ifn_plugin.apis.rasters.describe_run` gives.

    Raises:
        OSError: If the file cannot be written; an existing one is kept.
    """
    target = Path(target)
    with reading_environment(), writing(target), unfinished_folder(target) as folder:
        _write_cog(source, target, folder, kind, tags)


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder for unfinished files, since GDAL writes sidecar files; it is removed in the end."""
    folder = unfinished_path(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _write_cog(source: Path | str, target: Path, folder: Path, kind: str, tags: Mapping[str, str] | None) -> None:
    # The driver copies a finished data set, so colours and tags come by a VRT around it
    view, finished, how = folder / 'view.vrt', folder / 'finished.tif', KINDS[kind]
    rasterio.shutil.copy(source, view, driver='VRT')
    with rasterio.open(view, 'r+') as dataset:
        dataset.update_tags(**tags or {})
        dataset.set_band_description(1, how.description)
        dataset.scales = (how.scale, )
        if how.colours:
            dataset.write_colormap(1, how.colours)
    rasterio.shutil.copy(view, finished, driver='COG', compress='deflate', overview_resampling=how.resampling,
                         bigtiff='if_safer')
    _read_back(finished)
    # remove sidecar files of the former raster: statistics, overviews or masks from other software
    for suffix in ('aux.xml', 'ovr', 'msk'):
        former = target.with_name(f'{target.name}.{suffix}')
        if os.path.lexists(former):  # false for a name that is too long
            former.unlink()
    beside = finished.with_name(f'{finished.name}.aux.xml')  # what GeoTIFF cannot store
    if beside.exists():
        beside.replace(target.with_name(f'{target.name}.aux.xml'))
    finished.replace(target)
    shutil.copyfile(STYLES / f'{kind}.qml', target.with_suffix('.qml'))


def _read_back(path: Path) -> None:
    """Read a raster and its overviews: GDAL does not report a full disk when it flushes the last blocks."""
    with rasterio.open(path) as dataset:
        levels = range(len(dataset.overviews(1)))
    for level in (None, *levels):
        with rasterio.open(path, **{} if level is None else dict(overview_level=level)) as dataset:
            for _, window in dataset.block_windows(1):
                dataset.read(1, window=window)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors in the body into an ``OSError`` that names the file."""
    try:
        yield
    except Exception as error:  # rasterio's classes of GDAL's errors are private, and pyogrio has its own
        raise OSError(f'{path} could not be written: {" ".join(str(error.__cause__ or error).split())}. Is the disk '
                      'full? An existing file was kept.') from error
