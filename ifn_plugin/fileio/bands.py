"""Bands of rasters: reading, masks of valid data, and scaling to grey levels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Scale = tuple[float, float] | Sequence[tuple[float, float]]


def as_limits(scale: Scale, number: int) -> np.ndarray:
    """Expand ``scale`` to the limits of each band: the values that become 0 and 255.

    Args:
        scale: Lower and upper limit, for all bands or for each.
        number: Number of bands.

    Returns:
        Lower and upper limits, (2, number).

    Raises:
        ValueError: If their number does not match the bands, or a lower limit is not below its upper one.
    """
    limits = np.asarray(scale, float)
    limits = np.broadcast_to(limits, (number, 2)) if limits.shape == (2, ) else limits
    if limits.shape != (number, 2) or not (limits[:, 0] < limits[:, 1]).all():
        raise ValueError(f'scale={scale} is invalid. Fix: name the values that become 0 and 255, the lower first, once '
                         f'for all or for each of the {number} bands.')
    return limits.T


def scale_bands(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Scale an image, (H, W, C), to grey levels from 0 to 255, float32, and clip values beyond."""
    low, high = limits.astype(np.float32)
    scaled = (np.nan_to_num(image.astype(np.float32)) - low) * (255 / (high - low))
    clipped: np.ndarray = np.clip(scaled, 0, 255)
    return clipped


def refuse_complex(dtype: Any, name: str) -> None:
    """Reject complex values, such as those of single-look complex radar images.

    Args:
        dtype: Data type of numpy or rasterio, which has complex types that numpy lacks.
        name: Name of the image, for messages.

    Raises:
        ValueError: If the values are complex.
    """
    if str(dtype).startswith('complex'):
        raise ValueError(f'{name} has complex values ({dtype}). Fix: save their amplitude, or decibels, instead.')


def find_alpha(dataset: Any) -> int | None:
    """Return the number of a raster's alpha band; ``None`` if it has none."""
    return next((band for band, kind in enumerate(dataset.colorinterp, 1) if kind.name == 'alpha'), None)


def read_masks(dataset: Any, bands: Sequence[int], window: Any = None,
               shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read where bands of a raster have data, according to the file.

    A mask is the file's, a nodata value, or an alpha band, which GDAL only uses if it is the last of two or four bands.
    If that is one of ``bands``, it is data: GDAL marks the last of four 8-bit bands as alpha unless told otherwise.

    Args:
        dataset: The raster, opened by rasterio.
        bands: As for :func:`read_bands`.
        window: As for :func:`read_bands`.
        shape: As for :func:`read_bands`.

    Returns:
        For each band, (C, H, W), bool.
    """
    alpha = find_alpha(dataset)
    masks: np.ndarray = dataset.read_masks(list(bands), window=window, out_shape=shape and (len(bands), *shape)) > 0
    if alpha in bands:
        masks[['alpha' in [flag.name for flag in dataset.mask_flag_enums[band - 1]] for band in bands]] = True
    elif alpha is not None:
        masks &= dataset.read(alpha, window=window, out_shape=shape) > 0
    return masks


def read_bands(dataset: Any, bands: Sequence[int], window: Any = None,
               shape: tuple[int, int] | None = None, nodata: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read bands of a raster.

    Args:
        dataset: The raster, opened by rasterio.
        bands: Numbers of the bands, from 1.
        window: rasterio's window; the entire raster if ``None``.
        shape: Height and width to resample to while reading.
        nodata: Value of all these bands where there are no data, besides what the file itself declares.

    Returns:
        The values, (H, W, C), and the mask of valid data, (H, W), bool.
    """
    image = dataset.read(list(bands), window=window, out_shape=shape and (len(bands), *shape))
    valid = np.asarray(read_masks(dataset, bands, window, shape).any(axis=0))
    if image.dtype.kind == 'f':
        valid &= np.isfinite(image).all(axis=0)
    if nodata is not None:
        valid &= (image != nodata).any(axis=0)
    return image.transpose(1, 2, 0), valid
