"""Values of rasters that become 0 and 255."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ifn_plugin.fileio.bands import Scale, as_limits, read_masks

Limits = list[np.ndarray | None]


def find_limits(pairs: Sequence[Any], scale: Scale | None, scale2: Scale | None) -> Limits:
    """Find the values of each band that become 0 and 255, the same for all pairs.

    Args:
        pairs: Open pairs of rasters (``RasterPair``), of as many bands each.
        scale: Values that become 0 and 255, for all bands or for each. Defaults to the 2nd and the 98th percentile of
            each band over both dates of all pairs; 8-bit rasters are not scaled.
        scale2: Values of the later date, if they differ.

    Returns:
        The limits of each date, (2, C); ``None`` where nothing is scaled.

    Raises:
        ValueError: If ``scale`` does not fit the bands, or without one, if the dates differ in the type or the range of
            their values, or there are no data.
    """
    number = len(pairs[0].bands[0])
    if scale is not None:
        limits = as_limits(scale, number)
        return [limits, limits if scale2 is None else as_limits(scale2, number)]
    if scale2 is not None:
        raise ValueError(f'scale2={scale2} without scale. Fix: set scale for the earlier raster, too.')
    if compare_types([kind for pair in pairs for kind in value_types(pair)]) == 'uint8':
        return [None, None]
    side = max(32, round(1000 / len(pairs)**0.5))
    samples = [_sample(pair, side) for pair in pairs]
    values = [[np.concatenate(band) for band in zip(*date)] for date in zip(*samples)]
    both = [np.concatenate(bands) for bands in zip(*values)]
    paths = pairs[0].paths
    if not all(map(len, both)):
        raise ValueError(f'{" and ".join(paths)} have no pixel with data.')
    if all(len(band) for date in values for band in date):
        dates = [[np.percentile(band, (2, 50, 98)) for band in date] for date in values]
        # a real change may shift some bands; a different unit shifts all
        if all(map(_have_other_units, *dates)):
            shown = [f'{bands[0][0]:g} to {bands[0][2]:g}' for bands in dates]
            raise ValueError(_tell_difference('range (percentiles 2 and 98 of the first band)', paths, shown))
    low, high = np.transpose([np.percentile(band, (2, 98)) for band in both])
    return [np.stack([low, np.maximum(high, low + np.maximum(1e-6, 1e-5 * np.abs(low)))])] * 2


def value_types(pair: Any) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """Return each raster of a pair with the type, factor and offset of its bands."""
    return [(path, [(dataset.dtypes[band - 1], dataset.scales[band - 1], dataset.offsets[band - 1]) for band in bands])
            for path, dataset, bands in zip(pair.paths, pair.datasets, pair.bands)]


def compare_types(kinds: Sequence[tuple[str, list[tuple[str, float, float]]]]) -> str:
    """Return the type of the values of all rasters, an empty string if bands differ among each other.

    Raises:
        ValueError: If two rasters differ; they are named.
    """
    for path, found in kinds:
        differing = next((both for both in zip(kinds[0][1], found) if both[0] != both[1]), None)
        if differing:
            shown = ['{} (factor {:g}, offset {:g})'.format(*kind) for kind in differing]
            raise ValueError(_tell_difference('type of values', (kinds[0][0], path), shown))
    types = {dtype for dtype, *_ in kinds[0][1]}
    return types.pop() if len(types) == 1 else ''


def _sample(pair: Any, side: int) -> list[list[np.ndarray]]:
    """Sample the valid, finite values of each band of both dates."""
    shape = min(pair.height, side), min(pair.width, side)
    samples: list[list[np.ndarray]] = pair.read_each(partial(_sample_bands, shape=shape, nodata=pair.nodata))
    return samples


def _sample_bands(dataset: Any, bands: list[int], shape: tuple[int, int], nodata: float | None) -> list[np.ndarray]:
    values = dataset.read(bands, out_shape=(len(bands), *shape))
    valid = read_masks(dataset, bands, shape=shape) & np.isfinite(values)  # -inf in decibels
    if nodata is not None:
        valid &= (values != nodata).any(axis=0)
    return [band[mask] for band, mask in zip(values, valid)]


def _have_other_units(first: np.ndarray, second: np.ndarray) -> bool:
    """Check whether two dates seem to have different units, by their percentiles 2, 50 and 98.

    Their ranges are disjoint, or one is much wider and has its median outside the other.
    """
    narrow, wide = sorted((first, second), key=lambda values: values[2] - values[0])
    apart = narrow[0] > wide[2] or narrow[2] < wide[0]
    wider = wide[2] - wide[0] > 4 * (narrow[2] - narrow[0])
    return bool(apart or (wider and not narrow[0] <= wide[1] <= narrow[2]))


def _tell_difference(what: str, paths: Sequence[str], values: Sequence[str]) -> str:
    return (f'The rasters differ in {what}: {paths[0]} has {values[0]}, {paths[1]} has {values[1]}. Fix: name the '
            'values that become 0 and 255, by --scale LOW HIGH if they are the same for both, or by --scale LOW1 HIGH1 '
            'LOW2 HIGH2 for each (scale and scale2 in Python).')
