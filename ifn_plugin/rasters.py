"""Change maps of rasters of any size, georeferenced or not, with rasterio: ``pip install "ifn_plugin[geo]"``."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from .data.bands import Scale, as_limits, read_bands, refuse_complex, scale_bands
from .inference import ChangeDetector, read_ahead

try:
    import geopandas
    import pyproj
    import rasterio
    import rasterio.features
    import shapely
    import shapely.geometry
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window
except ImportError as error:
    raise ImportError(f'Rasters need rasterio and geopandas ({error}): pip install "ifn_plugin[geo]".') from error

# Of the written rasters: no data in one of the dates
NODATA = 255
# A probability of 1 in the written rasters
FULL = 254
DRIVERS = {'.gpkg': 'GPKG', '.geojson': 'GeoJSON'}
_PROFILE = dict(driver='GTiff', dtype='uint8', count=1, nodata=NODATA, tiled=True, compress='deflate',
                bigtiff='if_safer')


@dataclass(frozen=True)
class RasterSummary:
    """What was found in a pair of rasters.

    Attributes:
        changed: Pixels that are changed.
        valid: Pixels with data in both dates.
        total: All pixels.
    """

    changed: int
    valid: int
    total: int


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
        date1, date2 = self.read(None, _shrunk(self.height, self.width, side))[0]
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


def _shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1., side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def preview_map(path: Path, side: int = 1024) -> np.ndarray:
    """A change map of :func:`predict_raster`, shrunk to a side, (h, w), uint8."""
    with rasterio.open(path) as dataset:
        array: np.ndarray = dataset.read(1, out_shape=_shrunk(dataset.height, dataset.width, side))
    return array


class _Axis:
    """Windows along one axis: where each is read, what of it counts, and with which weight.

    Windows start at multiples of ``stride``. Where two overlap, the weights of both sum to 1, rising as half a cosine
    but for a margin, in which a window sees too little of what surrounds it. A window that would reach over the end is
    read further inside.
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
        """Where the part of a window that counts starts."""
        return index * self.stride

    def stop(self, index: int) -> int:
        """Where it stops."""
        return min(self.start(index) + self.stride + self.overlap, self.length)

    def final(self, index: int) -> int:
        """Where what no later window adds to stops."""
        return self.length if index == self.number - 1 else self.start(index + 1)

    def read_from(self, index: int) -> int:
        """Where a window is read from."""
        return min(self.start(index), self.length - self.window)

    def weights(self, index: int) -> np.ndarray:
        """Of the part that counts."""
        weights = np.ones(self.stop(index) - self.start(index), np.float32)
        if index > 0:
            weights[:self.overlap] *= self.ramp[:len(weights)]
        if index < self.number - 1:
            weights[-self.overlap or len(weights):] *= 1 - self.ramp
        return weights


def blended_blocks(detector: ChangeDetector, pair: RasterPair, window: int = 1024,
                   overlap: int = 256) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Probabilities of "changed" in overlapping windows, blended, block by block from the upper left.

    Args:
        detector: The detector.
        pair: The rasters.
        window: Side of the windows, in pixels.
        overlap: By how much they overlap, less than half of ``window``.

    Yields:
        Where a block lies, as rasterio's window; its probabilities, (h, w), float32; where both dates have data.
    """
    if not 0 <= 2 * overlap < window:
        raise ValueError(f'overlap={overlap} is not less than half of window={window}.')
    rows, columns = (_Axis(length, window, overlap) for length in (pair.height, pair.width))
    places = [(row, column) for row in range(rows.number) for column in range(columns.number)]

    def read(place: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray | None, np.ndarray]:
        row, column = place
        images, valid = pair.read(Window(
            columns.read_from(column), rows.read_from(row), columns.window, rows.window))
        # where there are no data, there is nothing to compute either, nor to keep
        return (place, images, valid) if valid.any() else (place, None, np.broadcast_to(False, valid.shape))

    below = np.zeros((overlap, pair.width), np.float32)  # what the row of windows above has left
    right = np.zeros((0, 0), np.float32)  # what the window on the left has left
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
    profile = dict(_PROFILE, width=pair.width, height=pair.height, crs=pair.crs, transform=pair.transform,
                   blockxsize=tile, blockysize=tile)
    points, system = pair.gcps
    if points:
        profile.update(gcps=points, crs=system)
        del profile['transform']
    changed = valid_pixels = 0
    # a small cache: each pixel is read once or twice, soon after another
    with rasterio.Env(GDAL_CACHEMAX=64 * 2**20), ExitStack() as stack, Progress() as progress:
        task = progress.add_task('Predicting', total=pair.height * pair.width)
        map_file, probability_file = (stack.enter_context(_Unfinished(path, profile)) if path else None
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


class _Unfinished:
    """A raster that takes its name when it is finished, overviews included, and can be read."""

    def __init__(self, path: Path, profile: dict[str, Any]) -> None:
        self.path = path
        self.unfinished = path.with_name(f'{path.name}.unfinished')
        # what GeoTIFF has no place for
        self.beside = [file.with_name(f'{file.name}.aux.xml') for file in (self.unfinished, path)]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.dataset = rasterio.open(self.unfinished, 'w', **profile)

    def write(self, block: np.ndarray, window: Any) -> None:
        """Write a block of the only band."""
        with _writing(self.path):
            self.dataset.write(block, 1, window=window)

    def __enter__(self) -> '_Unfinished':
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            # after an error, that one is to be told, not those of closing what it left
            with _writing(self.path) if kind is None else suppress(Exception):
                self.dataset.close()
                if kind is None:
                    self._finish()
        finally:
            for file in (self.unfinished, self.beside[0]):
                file.unlink(missing_ok=True)

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
def _writing(path: Path) -> Iterator[None]:
    """Say of errors which file could not be written."""
    try:
        yield
    except Exception as error:  # GDAL's errors have private classes in rasterio; pyogrio's are others
        raise OSError(f'{path} could not be written: {" ".join(str(error.__cause__ or error).split())}. Is the disk '
                      'full? What was there before is still there.') from error


def write_polygons(map_path: Path, probability_path: Path, out: Path, min_area: float = 0.) -> int:
    """Write the changed areas of finished rasters as polygons.

    Args:
        map_path: The change map, from :func:`predict_raster`.
        probability_path: The probabilities, likewise.
        out: A GeoPackage (``.gpkg``) or GeoJSON (``.geojson``, in longitude and latitude as its standard says).
        min_area: Smaller areas are left out, in m².

    Returns:
        The number of polygons, each with ``area_m2`` and ``mean_probability``. Without a coordinate system, or with a
        site's own, areas are in the units of the grid squared.

    Raises:
        OSError: If the file cannot be written; what was there before is kept.
        ValueError: For another suffix of ``out``.
    """
    if out.suffix.lower() not in DRIVERS:
        raise ValueError(f'{out}: name a file that ends in {" or ".join(DRIVERS)}.')
    shapes, areas, means = [], [], []
    with rasterio.open(map_path) as changes, rasterio.open(probability_path) as probabilities:
        crs = changes.crs
        # a site's own system has no place on the earth
        earthly = crs is not None and pyproj.CRS(crs.to_wkt()).geodetic_crs is not None
        band, measure = rasterio.band(changes, 1), _measure(crs if earthly else None)
        # without a mask of the changed, all that is unchanged would be a polygon too
        for geometry, value in rasterio.features.shapes(band, mask=band, connectivity=8, transform=changes.transform):
            if value != 1:
                continue
            polygon = shapely.geometry.shape(geometry)
            area = measure(polygon)
            if area < min_area:
                continue
            # where pixels touch at a corner only, the outline meets itself: then it becomes several
            shapes.append(shapely.make_valid(polygon))
            areas.append(area)
            means.append(_mean_probability(polygon, changes, probabilities))
    frame = geopandas.GeoDataFrame(dict(area_m2=areas, mean_probability=means), geometry=shapes, crs=crs)
    if out.suffix.lower() == '.geojson' and earthly:
        frame = frame.to_crs(4326)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f'unfinished-{out.name}')
    unfinished.unlink(missing_ok=True)
    try:
        with _writing(out):
            if out.exists() and out.suffix.lower() == '.gpkg':
                shutil.copy(out, unfinished)  # with layers of other names, which stay
            frame.to_file(unfinished, driver=DRIVERS[out.suffix.lower()], layer=out.stem)
            unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(frame)


def _measure(crs: Any) -> Callable[[Any], float]:
    """A function that gives the area of a polygon in m² on the ellipsoid, whatever the projection does to it."""
    if crs is None:
        return lambda polygon: float(polygon.area)
    system = pyproj.CRS(crs.to_wkt())
    geodetic: Any = system.geodetic_crs
    angles = pyproj.Transformer.from_crs(system, geodetic, always_xy=True)
    unit = math.degrees(geodetic.axis_info[0].unit_conversion_factor)  # some count in grads
    geod: Any = system.get_geod()

    def area(polygon: Any) -> float:
        degrees = shapely.transform(polygon, lambda points: unit * np.stack(angles.transform(*points.T), axis=1))
        return abs(float(geod.geometry_area_perimeter(degrees)[0]))

    return area


def _mean_probability(polygon: Any, changes: Any, probabilities: Any) -> float:
    window = rasterio.features.geometry_window(changes, [polygon])
    inside = rasterio.features.geometry_mask(
        [polygon], (window.height, window.width), changes.window_transform(window), invert=True)
    inside &= changes.read(1, window=window) == 1
    return float(probabilities.read(1, window=window)[inside].mean()) / FULL


def _batches(windows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """As many windows, in order, as make a full batch of those with images."""
    batch, wanted = [], 0
    for window in windows:
        batch.append(window)
        wanted += window[1] is not None
        if wanted in (0, size):
            yield batch
            batch, wanted = [], 0
    if batch:
        yield batch
