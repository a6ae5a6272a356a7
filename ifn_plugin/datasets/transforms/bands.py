"""Transforms for bands other than red, green and blue: multispectral images, radar, single bands."""

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
from ifn_plugin.datasets.transforms.loading import LoadPair, describe, is_image
from ifn_plugin.fileio import BrokenConnectionError, complete_answers
from ifn_plugin.fileio.bands import Scale, as_limits, read_bands, refuse_complex, scale_bands
from ifn_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadBands(LoadPair):
    """Load bands of both dates of a pair from rasters, such as GeoTIFF, with 8-bit, 16-bit or float values.

    The values are scaled, without rounding, to grey levels from 0 to 255, which are the units of the preprocessor's
    ``mean`` and ``std`` and of the augmentation. Pixels without data in either date are 0 in both and ignored in the
    label. Requires rasterio: ``pip install "ifn_plugin[geo]"``.

    Required key: ``img_path``, the two files. Added keys: ``img``, the list of both images, each (H, W, C), float32,
    with the bands in the order of ``bands``; ``valid``, (H, W), bool; ``img_shape`` and ``ori_shape``, (H, W).

    Args:
        bands: Band numbers in the files, from 1.
        scale: The values that become 0 and 255, for all bands or for each; values beyond are clipped. Optional only
            for 8-bit bands.
        shown: Indices in ``bands``, from 0, of the three that pictures show as red, green and blue; by default the
            first three or, of fewer bands, the first one in grey.
        backend_args: Config of mmengine's file backend, for files that are not on disk.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If rasterio is missing.
        ValueError: If a file is not a raster, lacks bands or needs a ``scale``, or the two sizes differ; the message
            names the file.
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
            raise ValueError(f'bands={bands} is invalid. Fix: name at least one, counted from 1.')
        self.in_channels = len(self.bands)
        self.scale = scale
        self.limits = None if scale is None else as_limits(scale, self.in_channels)
        self.shown = list(shown) if shown is not None else list(range(self.in_channels))[:3]
        if shown is None and len(self.shown) < 3:
            self.shown = [0] * 3
        if len(self.shown) != 3 or not all(0 <= place < self.in_channels for place in self.shown):
            raise ValueError(f'shown={shown} is invalid. Fix: name three indices of bands={self.bands}, from 0.')

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
        backend = self._find_backend(path)
        if backend is not None and not backend.exists(path):
            raise FileNotFoundError(f'{path}: no such file.')
        fault = 'is not a raster that rasterio can open'
        try:
            with warnings.catch_warnings(), complete_answers(), ExitStack() as stack:
                warnings.simplefilter('ignore', NotGeoreferencedWarning)  # training needs no coordinates
                # by name, since a file on disk may have its mask in a sidecar file
                file = path if backend is None else stack.enter_context(rasterio.MemoryFile(backend.get(path)))
                dataset = stack.enter_context(rasterio.open(file))
                fault = 'is damaged'
                if max(self.bands) > dataset.count:
                    raise ValueError(f'{path} has {dataset.count} bands, but LoadBands needs bands={self.bands}.')
                image, valid = read_bands(dataset, self.bands)
        except (RasterioError, BrokenConnectionError) as error:
            if backend is None and not Path(path).exists():
                raise FileNotFoundError(f'{path}: no such file, or it cannot be reached '
                                        f'({" ".join(str(error).split())}).') from error
            raise ValueError(f'{path} {fault} ({" ".join(str(error).split())}). {REPLACE}') from error
        if np.shape(results['valid']) in ((), valid.shape):  # other sizes are rejected once both dates are read
            results['valid'] = results['valid'] & valid
        return self.to_grey_levels(image, path, valid)

    def _find_backend(self, path: str) -> Any:
        """Return mmengine's file backend for a file; ``None`` for what GDAL reads itself: disks, archives, URLs."""
        try:
            backend = fileio.get_file_backend(path, backend_args=self.backend_args)
        except (ImportError, KeyError):
            if self.backend_args is not None:
                raise
            return None  # no backend of this name, or one that lacks its library, such as of s3://
        return None if isinstance(backend, (fileio.LocalBackend, fileio.HTTPBackend)) else backend

    def to_grey_levels(self, image: np.ndarray, name: str, valid: np.ndarray | None = None) -> np.ndarray:
        """Scale the values of a file to grey levels.

        Args:
            image: The values, (H, W, C).
            name: Name of the image, for messages.
            valid: Mask of valid data, (H, W); messages report the values inside.

        Returns:
            Grey levels from 0 to 255, float32, of the same shape.

        Raises:
            ValueError: If the values are complex, or need a ``scale`` and there is none.
        """
        refuse_complex(image.dtype, name)
        if self.limits is not None:
            return scale_bands(image, self.limits)
        if image.dtype != np.uint8:
            known = image if valid is None else image[valid]
            known = known[np.isfinite(known)]
            seen = 'This image has no valid data.'
            if known.size:
                seen = 'Percentiles 2 and 98 of this image are {:g} and {:g}.'.format(*np.percentile(known, (2, 98)))
            raise ValueError(f'{name} has {image.dtype} values, so LoadBands needs to know which become 0 and 255. '
                             f'Fix: set its scale. {seen}')
        return image.astype(np.float32)

    def from_array(self, image: Any, name: str) -> np.ndarray:
        """Convert an array, (H, W, C), as if its values had been loaded from a file.

        Args:
            image: The values.
            name: Name of the image, for messages.

        Returns:
            Grey levels from 0 to 255, (H, W, C), float32.

        Raises:
            ValueError: If it is not such an array, or as for :meth:`to_grey_levels`.
        """
        if not is_image(image, self.in_channels):
            raise ValueError(f'{name} is {describe(image)}, but an image (H, W, {self.in_channels}) with the '
                             f'values of bands {self.bands} is needed for both dates, or a file for both.')
        return self.to_grey_levels(np.ma.getdata(image), name)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Convert a loaded image to a picture for display, (H, W, 3), RGB, uint8."""
        shown: np.ndarray = image[..., self.shown].round().astype(np.uint8)
        return shown


@TRANSFORMS.register_module()
class BandDistortion(BaseTransform):
    """Distort brightness and contrast of each date and gain of each band independently, for any number of bands.

    Unlike colour distortion, it assumes nothing about the bands. Values stay between 0 and 255; pixels that are 0 in
    all bands, such as those without data, stay 0.

    Required key: ``img``, the list of images, (H, W, C), in grey levels from 0 to 255, float32 or uint8.

    Args:
        brightness_delta: Largest change of a date's brightness, in grey levels.
        contrast_range: Smallest and largest factor of a date's contrast.
        band_range: Smallest and largest factor of each band.
        prob: Probability of each of the three distortions, for each date.
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
