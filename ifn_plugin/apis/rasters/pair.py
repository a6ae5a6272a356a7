"""Two rasters on one grid, read window by window."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from ...data.bands import Scale, as_limits, read_bands, refuse_complex, scale_bands


class RasterPair:
    """Two rasters on one grid, read window by window in grey levels from 0 to 255.

    Args:
        date1: The earlier raster, any that rasterio opens.
        date2: The later one.
        bands: Which bands to read, counted from 1, such as red, green and blue.
        scale: The values that become 0 and 255, for all bands or for each; for rasters of other than 8 bits, by default
            the 2nd and the 98th percentile of each band over both dates.
        align: Warp the second raster to the grid of the first while reading, if it has another.
        dtype: ``'uint8'``, rounded, or ``'float32'``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is no raster, lacks bands, has complex values or cannot be aligned, or the grids differ;
            it is named.
    """

    def __init__(self,
                 date1: str | Path,
                 date2: str | Path,
                 bands: Sequence[int] = (1, 2, 3),
                 scale: Scale | None = None,
                 align: bool = False,
                 dtype: str = 'uint8') -> None:
        self.paths = str(date1), str(date2)
        self.bands = list(bands)
        self.dtype = dtype
        with ExitStack() as self._stack:
            self._set_up(scale, align)
            self._stack = self._stack.pop_all()  # to be closed later, unless something was wrong

    def _set_up(self, scale: Scale | None, align: bool) -> None:
        first, second = (self._open(path) for path in self.paths)
        if align and self._find_difference(first, second):
            second = self._warp(first, second)
        difference = self._find_difference(first, second)
        if difference:
            raise ValueError(difference)
        self.datasets = first, second
        self.height, self.width = first.height, first.width
        self.crs, self.transform, self.gcps = first.crs, first.transform, first.gcps
        self._limits = self._find_limits(scale)

    def _open(self, path: str) -> Any:
        if not Path(path).exists():
            raise FileNotFoundError(f'{path}: no such file.')
        try:
            dataset = self._stack.enter_context(rasterio.open(path))
        except rasterio.errors.RasterioIOError as error:
            raise ValueError(f'{path} is no raster that can be read: {" ".join(str(error).split())}') from error
        if not all(1 <= band <= dataset.count for band in self.bands):
            raise ValueError(f'{path} has {dataset.count} bands, but bands {self.bands} are asked for. Choose others.')
        for band in self.bands:
            refuse_complex(dataset.dtypes[band - 1], path)
        return dataset

    def _warp(self, first: Any, second: Any) -> Any:
        """The second raster on the grid of the first."""
        for path, dataset, other in zip(self.paths, (first, second), (second, first)):
            # both may lie on grids of a system that neither names
            if dataset.crs is None and (other.crs is not None or dataset.transform.is_identity):
                what = 'only ground control points' if dataset.gcps[0] else 'no coordinate system'
                raise ValueError(f'{path} has {what}, so it cannot be aligned. Give it a coordinate system (by '
                                 'gdalwarp where there are control points, else by gdal_edit.py -a_srs and -a_ullr), '
                                 'or leave out --align for images that already lie on each other.')
        try:
            warped = WarpedVRT(second, crs=first.crs, transform=first.transform, width=first.width,
                               height=first.height, resampling=Resampling.bilinear, **_outside(second))
        except Exception as error:  # GDAL's have no public class; raised again in full, with its cause
            raise ValueError(f'{self.paths[1]} ({second.crs}) cannot be aligned with {self.paths[0]} ({first.crs}): '
                             f'{error}. Give both a coordinate system that leads to the other by gdal_edit.py -a_srs, '
                             'or leave out --align for images that already lie on each other.') from error
        return self._stack.enter_context(warped)

    def _find_difference(self, first: Any, second: Any) -> str:
        """In what the grids differ, in words; empty if they do not."""
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
                        f'{values[1]}. Align the second with --align, or bring both to one grid.')
        return ''

    def _find_limits(self, scale: Scale | None) -> np.ndarray | None:
        """The values of each band that become 0 and 255, (2, C); none for rasters of 8 bits."""
        if scale is not None:
            return as_limits(scale, len(self.bands))
        if all(dataset.dtypes[band - 1] == 'uint8' for dataset in self.datasets for band in self.bands):
            return None
        number = len(self.bands)
        shape = number, min(self.height, 1000), min(self.width, 1000)
        samples = [_read(path, partial(dataset.read, self.bands, out_shape=shape, masked=True))
                   for path, dataset in zip(self.paths, self.datasets)]
        values = [np.concatenate([sample[band].compressed() for sample in samples]) for band in range(number)]
        values = [value[np.isfinite(value)] for value in values]  # radar in decibels has -inf
        if not all(map(len, values)):
            raise ValueError(f'{self.paths[0]} and {self.paths[1]} have no pixel with data.')
        low, high = np.transpose([np.percentile(value, (2, 98)) for value in values])
        return np.stack([low, np.maximum(high, low + np.maximum(1e-6, 1e-5 * np.abs(low)))])

    def read(self, window: Any, shape: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read a window.

        Args:
            window: rasterio's window; the whole raster if ``None``.
            shape: Read it shrunk to this height and width.

        Returns:
            Both dates, (2, H, W, C), in the order of the bands; and where both have data, (H, W), bool.

        Raises:
            ValueError: If a file is damaged; it is named.
        """
        images: list[np.ndarray] = []
        valid: Any = True
        for path, dataset in zip(self.paths, self.datasets):
            image, has_data = _read(path, partial(read_bands, dataset, self.bands, window, shape))
            valid = valid & has_data
            if self._limits is not None:
                image = scale_bands(image, self._limits)
                image = image.round() if self.dtype == 'uint8' else image
            images.append(image.astype(self.dtype, copy=False))
        pair = np.stack(images)
        # as in training, see LoadBands: the channel attention spreads what is there over the whole window
        pair[:, ~valid] = 0
        return pair, np.asarray(valid)

    def preview(self, side: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """Both dates, shrunk to a side, (h, w, C)."""
        date1, date2 = self.read(None, shrunk(self.height, self.width, side))[0]
        return date1, date2

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> 'RasterPair':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _outside(dataset: Any) -> dict[str, Any]:
    """What tells where a raster that is warped has no pixels: its own, or else an alpha band or a no-data value."""
    if dataset.nodata is not None or ColorInterp.alpha in dataset.colorinterp:
        return {}
    dtype = np.dtype(dataset.dtypes[0])
    if dtype in (np.uint8, np.uint16):
        return dict(add_alpha=True)  # which GDAL takes for a mask in these types only
    if dtype.kind == 'f':
        return dict(nodata=math.nan)
    return dict(nodata=np.iinfo(dtype).max if dtype.kind == 'u' else np.iinfo(dtype).min)


def _places(dataset: Any) -> list[tuple[float, ...]]:
    return [(point.row, point.col, point.x, point.y) for point in dataset.gcps[0]]


def _read(path: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except rasterio.errors.RasterioError as error:
        raise ValueError(f'{path} cannot be read, it seems damaged: {" ".join(str(error.__cause__ or error).split())}. '
                         'Replace it.') from error


def shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1., side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
