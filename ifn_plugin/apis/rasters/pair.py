"""Two rasters on one grid, read window by window."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from mmengine.logging import print_log
from rasterio.dtypes import in_dtype_range
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from ifn_plugin.apis.rasters.interest import AreaOfInterest
from ifn_plugin.apis.rasters.opening import UnreachableError, find_colours, open_raster, reading
from ifn_plugin.apis.rasters.stretch import find_limits
from ifn_plugin.fileio import forget_answers
from ifn_plugin.fileio.bands import Scale, find_alpha, read_bands, refuse_complex, scale_bands

T = TypeVar('T')
# Formats whose pixels are all in the file that is opened, by rasterio's names
SINGLE_FILES = ('EHdr', 'ENVI', 'GTiff', 'JP2OpenJPEG', 'JPEG', 'PNG')


class RasterPair:
    """Two rasters on one grid, read window by window in grey levels from 0 to 255.

    Args:
        date1: The earlier raster, a file or anything else that rasterio opens.
        date2: The later one, likewise.
        bands: Bands to read from both, counted from 1. Defaults to red, green and blue by the colour interpretation of
            each file, or else to its first three; the choice is logged.
        scale: Values that become 0 and 255, for all bands or for each. Defaults to the 2nd and the 98th percentile of
            each band over both dates; 8-bit rasters are not scaled.
        align: Whether to warp the second raster to the grid of the first while reading, if the grids differ.
        dtype: ``'uint8'``, rounded, or ``'float32'``.
        scale2: Scale of the later raster, if it differs from that of the earlier.
        nodata: Value of all bands where a raster has no data, for files that do not declare one.
        crop: Whether to take from the second raster what lies under the first, if their pixels coincide.
        report: Whether to log which bands were chosen.

    Attributes:
        bands: Bands that are read from each date.
        interest: The area of interest, an ``AreaOfInterest``; the entire raster if ``None``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not a raster, lacks bands, has complex values or cannot be aligned, or if the grids
            differ or, without ``scale``, the types or ranges of values; the file is named.
    """

    def __init__(self,
                 date1: str | Path,
                 date2: str | Path,
                 bands: Sequence[int] | None = None,
                 scale: Scale | None = None,
                 align: bool = False,
                 dtype: str = 'uint8',
                 scale2: Scale | None = None,
                 nodata: float | None = None,
                 crop: bool = False,
                 report: bool = True) -> None:
        self.paths = str(date1), str(date2)
        self.dtype = dtype
        self.nodata = nodata
        self.interest: AreaOfInterest | None = None
        self._reading = RLock()
        self._open = partial(self._open_both, bands, align, crop)
        with ExitStack() as stack:
            self._open(report)
            stack.callback(self.close)
            self._limits = find_limits([self], scale, scale2)
            stack.pop_all()  # without an error, the files stay open until close()

    def _open_both(self, bands: Sequence[int] | None, align: bool, crop: bool, report: bool) -> None:
        with ExitStack() as self._stack:
            first, second = (self._stack.enter_context(open_raster(path)) for path in self.paths)
            self._can_reopen = all(dataset.driver in SINGLE_FILES for dataset in (first, second))
            self.bands = [self._choose_bands(*source, bands, report) for source in zip((first, second), self.paths)]
            self._set_up(first, second, align, crop)
            self._stack = self._stack.pop_all()

    @staticmethod
    def _choose_bands(dataset: Any, path: str, bands: Sequence[int] | None, report: bool) -> list[int]:
        if bands is None:
            chosen, how = find_colours(dataset, path)
            if report and chosen != list(range(1, dataset.count + 1)):
                print_log(f'{path}: red, green and blue are bands {" ".join(map(str, chosen))} of {dataset.count}, '
                          f'{how}. Others: bands (--bands).', 'current', logging.INFO)
        else:
            chosen = list(bands)
        if not all(1 <= band <= dataset.count for band in chosen):
            raise ValueError(f'{path} has {dataset.count} bands, but bands {chosen} are requested. Fix: choose others.')
        for band in chosen:
            refuse_complex(dataset.dtypes[band - 1], path)
        return chosen

    def _set_up(self, first: Any, second: Any, align: bool, crop: bool) -> None:
        warp = (align or (crop and _coincide(first, second))) and self._find_difference(first, second)
        alpha = find_alpha(second)
        if (warp or crop) and alpha in self.bands[1]:
            colours = ['undefined' if kind == ColorInterp.alpha else kind.name for kind in second.colorinterp]
            raise ValueError(f'{self.paths[1]} says that its band {alpha} is alpha, but it is to be read as data. Fix: '
                             f'rio edit-info --colorinterp {",".join(colours)} FILE, for each of its files.')
        if warp:
            second = self._warp(first, second)
        difference = self._find_difference(first, second)
        if difference:
            raise ValueError(difference)
        self.datasets = first, second
        self.height, self.width = first.height, first.width
        self.crs, self.transform, self.gcps = first.crs, first.transform, first.gcps

    def _warp(self, first: Any, second: Any) -> Any:
        """Warp the second raster to the grid of the first."""
        for path, dataset, other in zip(self.paths, (first, second), (second, first)):
            # both grids may be in the same system although neither file names it
            if dataset.crs is None and (other.crs is not None or dataset.transform.is_identity):
                what = 'only ground control points' if dataset.gcps[0] else 'no coordinate system'
                raise ValueError(f'{path} has {what}, so it cannot be aligned. Fix: give it a coordinate system (by '
                                 'gdalwarp where there are control points, else by gdal_edit.py -a_srs and -a_ullr), '
                                 'or leave out --align for images that are already co-registered.')
        try:
            warped = WarpedVRT(second, crs=first.crs, transform=first.transform, width=first.width,
                               height=first.height, resampling=Resampling.bilinear, **_outside(second, self.nodata))
        except Exception as error:  # rasterio has no public class for GDAL's errors; the cause is kept
            raise ValueError(f'{self.paths[1]} ({second.crs}) cannot be aligned with {self.paths[0]} ({first.crs}): '
                             f'{error}. Fix: assign coordinate systems that can be transformed into each other by '
                             'gdal_edit.py -a_srs, or leave out --align for images that are already co-registered.'
                             ) from error
        return self._stack.enter_context(warped)

    def _find_difference(self, first: Any, second: Any) -> str:
        """Describe how the grids differ; return an empty string if they do not."""
        same = first.transform.almost_equals(second.transform, precision=1e-6 * abs(first.transform.a))
        for what, equal, values in (
            ('coordinate system', first.crs == second.crs, (first.crs, second.crs)),
            ('size (height, width)', first.shape == second.shape, (first.shape, second.shape)),
            ('grid', same, (first.transform.to_gdal(), second.transform.to_gdal())),
            ('ground control points', _places(first) == _places(second),
             [f'{len(dataset.gcps[0])} of its own' for dataset in (first, second)]),
        ):
            if not equal:
                return (f'The rasters differ in {what}: {self.paths[0]} has {values[0]}, {self.paths[1]} has '
                        f'{values[1]}. Fix: align the second with --align, or resample both to the same grid.')
        return ''

    def read(self, window: Any, shape: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read a window.

        Args:
            window: Window of rasterio; the entire raster if ``None``.
            shape: Height and width to which the window is resampled.

        Returns:
            Both dates, (2, H, W, C), in the order of the bands; and whether both have data, (H, W), bool.

        Raises:
            ValueError: If a file is damaged; it is named.
        """
        images: list[np.ndarray] = []
        valid: Any = True
        found = self.read_each(partial(read_bands, window=window, shape=shape, nodata=self.nodata))
        for (image, has_data), limits in zip(found, self._limits):
            valid = valid & has_data
            if limits is not None:
                image = scale_bands(image, limits)
                image = image.round() if self.dtype == 'uint8' else image
            images.append(image.astype(self.dtype, copy=False))
        pair = np.stack(images)
        # nodata is 0 in both dates as in training, see LoadBands: channel attention would spread other values over
        # the entire window
        pair[:, ~valid] = 0
        return pair, np.asarray(valid)

    def read_each(self, read: Callable[[Any, list[int]], T]) -> list[T]:
        """Read both dates; where a connection breaks, once more from files that are opened anew, if they have no parts.

        Args:
            read: Reads some bands of a data set of rasterio.

        Raises:
            ValueError: If a file is damaged, or the connection breaks again; it is named.
        """
        with self._reading:
            try:
                return self._read_each(read)
            except UnreachableError as error:
                if not self._can_reopen:  # what GDAL keeps of other files would be taken for complete now
                    raise
                self.close()
                for path in self.paths:
                    forget_answers(path)
                try:
                    self._open(report=False)
                except FileNotFoundError:
                    raise error from None
                return self._read_each(read)

    def _read_each(self, read: Callable[[Any, list[int]], T]) -> list[T]:
        return [reading(path, partial(read, dataset, bands))
                for path, dataset, bands in zip(self.paths, self.datasets, self.bands)]

    def preview(self, side: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """Return both dates, each (h, w, C), shrunk to at most ``side`` pixels in height and width."""
        date1, date2 = self.read(None, shrunk(self.height, self.width, side))[0]
        return date1, date2

    def close(self) -> None:
        """Close the files, once a thread that reads ahead has read what it is reading: GDAL would crash."""
        with self._reading:
            self._stack.close()

    def __enter__(self) -> 'RasterPair':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _coincide(first: Any, second: Any) -> bool:
    """Check whether the pixels of two rasters coincide, wherever they lie."""
    if first.crs is None or first.crs != second.crs or first.gcps[0] or second.gcps[0]:
        return False
    places = ~first.transform @ second.transform
    return places.almost_equals(places.translation(round(places.c), round(places.f)), precision=1e-3)


def _outside(dataset: Any, nodata: float | None) -> dict[str, Any]:
    """Return settings by which ``WarpedVRT`` marks pixels outside a raster, unless it has nodata or an alpha band."""
    if dataset.nodata is not None or ColorInterp.alpha in dataset.colorinterp:
        return {}
    if nodata is not None and in_dtype_range(nodata, dataset.dtypes[0]):
        return dict(src_nodata=nodata, nodata=nodata)
    dtype = np.dtype(dataset.dtypes[0])
    if dtype in (np.uint8, np.uint16):
        return dict(add_alpha=True)  # GDAL uses it as a mask only with these types
    if dtype.kind == 'f':
        return dict(nodata=math.nan)
    return dict(nodata=np.iinfo(dtype).max if dtype.kind == 'u' else np.iinfo(dtype).min)


def _places(dataset: Any) -> list[tuple[float, ...]]:
    return [(point.row, point.col, point.x, point.y) for point in dataset.gcps[0]]


def shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    """Return a height and width shrunk to at most ``side`` pixels, with the same aspect ratio."""
    scale = min(1., side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
