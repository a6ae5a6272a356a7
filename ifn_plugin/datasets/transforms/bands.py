"""Pairs of other bands than red, green and blue: multispectral images, radar, single bands."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from ifn_plugin.datasets.transforms.dates import get_dates
from ifn_plugin.datasets.transforms.decoding import REPLACE
from ifn_plugin.datasets.transforms.loading import LoadPair
from ifn_plugin.registry import TRANSFORMS

Scale = tuple[float, float] | Sequence[tuple[float, float]]


def as_limits(scale: Scale, number: int) -> np.ndarray:
    """The values of each band that become 0 and 255.

    Args:
        scale: Both, for all bands or for each.
        number: How many bands there are.

    Returns:
        (2, number).

    Raises:
        ValueError: If they are not as many as the bands, or not in ascending order.
    """
    limits = np.asarray(scale, float)
    limits = np.broadcast_to(limits, (number, 2)) if limits.shape == (2, ) else limits
    if limits.shape != (number, 2) or not (limits[:, 0] < limits[:, 1]).all():
        raise ValueError(f'scale={scale}: name the values that become 0 and 255, the lower first, once for all or for '
                         f'each of the {number} bands.')
    return limits.T


def scale_bands(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Scale an image, (H, W, C), to grey levels from 0 to 255, float32, and cut off what is beyond."""
    low, high = limits.astype(np.float32)
    scaled = (np.nan_to_num(image.astype(np.float32)) - low) * (255 / (high - low))
    clipped: np.ndarray = np.clip(scaled, 0, 255)
    return clipped


def refuse_complex(dtype: Any, name: str) -> None:
    """Refuse complex values, as radar has them before detection; rasterio knows types of them that numpy does not.

    Raises:
        ValueError: If they are; it has the name.
    """
    if str(dtype).startswith('complex'):
        raise ValueError(f'{name} has complex values ({dtype}): save their amplitude, or decibels, instead.')


def read_alpha(dataset: Any, window: Any = None, shape: tuple[int, int] | None = None) -> Any:
    """Where a raster's alpha band shows anything, (H, W), bool; ``True`` if it has none.

    GDAL takes an alpha band for a mask only where it is the last of two or four.
    """
    alpha = [band for band, kind in enumerate(dataset.colorinterp, 1) if kind.name == 'alpha']
    return dataset.read(alpha[0], window=window, out_shape=shape) > 0 if alpha else True


def read_bands(dataset: Any, bands: Sequence[int], window: Any = None,
               shape: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read bands of a raster.

    Args:
        dataset: The raster, opened by rasterio.
        bands: Their numbers, from 1.
        window: rasterio's window; the whole raster if ``None``.
        shape: Read it shrunk to this height and width.

    Returns:
        Their values, (H, W, C), and where there are data, (H, W), bool.
    """
    settings = dict(indexes=list(bands), window=window, out_shape=shape and (len(bands), *shape))
    image = dataset.read(**settings)
    # the bands' own no-data values, and what holds for the whole raster, such as an alpha band
    valid = (dataset.read_masks(**settings) > 0).any(axis=0)
    valid &= (dataset.dataset_mask(window=window, out_shape=shape) > 0) & read_alpha(dataset, window, shape)
    if image.dtype.kind == 'f':
        valid &= np.isfinite(image).all(axis=0)
    return image.transpose(1, 2, 0), valid


@TRANSFORMS.register_module()
class LoadBands(LoadPair):
    """Load bands of both dates of a pair from rasters, such as GeoTIFF, of 8 or 16 bits or floats.

    The values are scaled to grey levels from 0 to 255, which are the units of the preprocessor's ``mean`` and ``std``
    and of the augmentation, without rounding. What has no data in either date is 0 in both and ignored in the label.
    Needs rasterio: ``pip install "ifn_plugin[geo]"``.

    Required key: ``img_path``, the two files. Added keys: ``img``, the list of both images, each (H, W, C), float32,
    with the bands in the order of ``bands``; ``valid``, (H, W), bool; ``img_shape`` and ``ori_shape``, (H, W).

    Args:
        bands: Their numbers in the files, from 1.
        scale: The values that become 0 and 255, for all bands or for each; values beyond are cut off. Only bands of 8
            bits can do without.
        shown: Where in ``bands``, from 0, are the three that stand for red, green and blue in pictures; by default the
            first three, or the first alone, in grey.
        backend_args: mmengine's file backend, where the files do not lie on disk.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If rasterio is missing.
        ValueError: If a file is no raster, lacks bands or needs a ``scale``, or the two sizes differ; it is named.
    """

    bgr = False

    def __init__(self,
                 bands: Sequence[int],
                 scale: Scale | None = None,
                 shown: Sequence[int] | None = None,
                 backend_args: dict[str, Any] | None = None) -> None:
        super().__init__(backend_args)
        self.bands = list(bands)
        if not self.bands or min(self.bands) < 1:
            raise ValueError(f'bands={bands}: name at least one, counted from 1.')
        self.in_channels = len(self.bands)
        self.scale = scale
        self.limits = None if scale is None else as_limits(scale, self.in_channels)
        self.shown = list(shown) if shown is not None else list(range(self.in_channels))[:3]
        if shown is None and len(self.shown) < 3:
            self.shown = [0] * 3
        if len(self.shown) != 3 or not all(0 <= place < self.in_channels for place in self.shown):
            raise ValueError(f'shown={shown}: name three places in bands={self.bands}, counted from 0.')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the pair."""
        results['valid'] = True
        results = super().transform(results)
        for image in results['img']:
            image[~results['valid']] = 0
        return results

    def _load(self, path: str, results: dict[str, Any]) -> np.ndarray:
        try:
            import rasterio
            from rasterio.errors import NotGeoreferencedWarning, RasterioError
        except ImportError as error:
            raise ImportError(f'LoadBands needs rasterio ({error}): pip install "ifn_plugin[geo]".') from error
        if not fileio.exists(path, backend_args=self.backend_args):
            raise FileNotFoundError(f'{path}: no such file.')
        fault = 'is no raster that rasterio opens'
        try:
            with warnings.catch_warnings(), ExitStack() as stack:
                warnings.simplefilter('ignore', NotGeoreferencedWarning)  # training does not need to know where it is
                # a file on disk may have its mask in another beside it
                file = path if Path(path).is_file() else stack.enter_context(
                    rasterio.MemoryFile(fileio.get(path, backend_args=self.backend_args)))
                dataset = stack.enter_context(rasterio.open(file))
                fault = 'is damaged'
                if max(self.bands) > dataset.count:
                    raise ValueError(f'{path} has {dataset.count} bands, but bands={self.bands} are asked for.')
                image, valid = read_bands(dataset, self.bands)
        except RasterioError as error:
            raise ValueError(f'{path} {fault} ({" ".join(str(error).split())}). {REPLACE}') from error
        if np.shape(results['valid']) in ((), valid.shape):  # other sizes are refused when both dates are read
            results['valid'] = results['valid'] & valid
        return self.to_grey_levels(image, path, valid)

    def to_grey_levels(self, image: np.ndarray, name: str, valid: np.ndarray | None = None) -> np.ndarray:
        """Scale values as they are in the files, (H, W, C), to float32 from 0 to 255.

        Args:
            image: The values.
            name: What errors call it.
            valid: Where there are data, (H, W); errors tell of these values.

        Returns:
            Grey levels, of the same shape.

        Raises:
            ValueError: If it is complex, or needs a ``scale`` and has none.
        """
        refuse_complex(image.dtype, name)
        if self.limits is not None:
            return scale_bands(image, self.limits)
        if image.dtype != np.uint8:
            known = image if valid is None else image[valid]
            known = known[np.isfinite(known)]
            seen = 'This one has no data.'
            if known.size:
                seen = 'Percentiles 2 and 98 of this one are {:g} and {:g}.'.format(*np.percentile(known, (2, 98)))
            raise ValueError(f'{name} has {image.dtype} values, so LoadBands needs to know which become 0 and 255: set '
                             f'its scale. {seen}')
        return image.astype(np.float32)

    def from_array(self, image: Any, name: str) -> np.ndarray:
        """What would have been loaded from a file with these values, (H, W, C)."""
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != self.in_channels:
            given = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else repr(image)
            raise ValueError(f'{name} is {given}, but an image (H, W, {self.in_channels}) with the values of bands '
                             f'{self.bands} is needed for both dates, or a file for both.')
        return self.to_grey_levels(image, name)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Something to look at, (H, W, 3), RGB, uint8, of an image that was loaded."""
        shown: np.ndarray = image[..., self.shown].round().astype(np.uint8)
        return shown


@TRANSFORMS.register_module()
class BandDistortion(BaseTransform):
    """Brightness and contrast of each date, and of each of its bands, on its own, for any number of bands.

    Unlike a distortion of colours, it asks nothing of what the bands are. Values stay between 0 and 255; what is 0 in
    all bands, such as pixels without data, stays 0.

    Required key: ``img``, the list of images, (H, W, C), in grey levels from 0 to 255, float32 or uint8.

    Args:
        brightness_delta: Largest change of a date's brightness, in grey levels.
        contrast_range: Smallest and largest factor of a date's contrast.
        band_range: Smallest and largest factor of each band.
        prob: Probability of each of the three, for each date.
    """

    def __init__(self,
                 brightness_delta: float = 10.,
                 contrast_range: Sequence[float] = (0.8, 1.2),
                 band_range: Sequence[float] = (0.95, 1.05),
                 prob: float = 0.5) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.band_range = band_range
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Distort both dates."""
        results['img'] = [self._distort(image) for image in get_dates(results, self)]
        return results

    def _distort(self, image: np.ndarray) -> np.ndarray:
        factors, offset = np.ones(image.shape[2]), 0.
        if np.random.rand() < self.prob:
            offset = np.random.uniform(-self.brightness_delta, self.brightness_delta)
        if np.random.rand() < self.prob:
            low, high = self.contrast_range
            factors *= np.random.uniform(low, high)
        if np.random.rand() < self.prob:
            low, high = self.band_range
            factors *= np.random.uniform(low, high, len(factors))
        levels = np.clip(image * factors.astype(np.float32) + np.float32(offset), 0, 255)
        levels *= image.any(axis=2, keepdims=True)
        if image.dtype == np.uint8:
            levels = levels.round()
        distorted: np.ndarray = levels.astype(image.dtype)
        return distorted
