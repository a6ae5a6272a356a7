"""Augmentation that only processes the crop: the stock transforms' samples at a fraction of their cost."""

import mmap
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ifn_plugin.datasets.transforms.dates import get_dates
from ifn_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomRotateCropFlip(BaseTransform):
    """Rotate, crop and flip in one step that reads and warps only the crop.

    The samples equal those of ``RandomRotate``, ``RandomCrop`` and two ``RandomFlip`` of mmseg and open-cd in sequence:
    the same random numbers in the same order give the same sample, bit for bit without rotation, up to interpolation
    rounding with it. The stock transforms rotate the entire image and then discard most of it; here the images may be
    memory-mapped files, of which the rest is never read.

    Required keys: ``img``, the list of images, (H, W, C), uint8 or float32, and ``gt_seg_map``, (H, W). Both are
    replaced, and so are ``img_shape`` and the other maps that ``seg_fields`` names.

    Args:
        crop_size: Height and width of the crop, in pixels. A smaller image keeps its size.
        rotate_prob: Probability of a rotation.
        degree: Largest angle in either direction, in degrees, or the smallest and the largest angle.
        cat_max_ratio: Draw again, up to ten times, while one class has this share or more of the labelled pixels.
        flip_prob: Probabilities of a horizontal and of a vertical flip.
        pad_val: Value of the images outside of the rotated image.
        seg_pad_val: Value of the label there, and of its ignored pixels.

    Raises:
        ValueError: If ``crop_size``, ``degree`` or ``flip_prob`` is not a pair, or out of range.
    """

    def __init__(self,
                 crop_size: int | Sequence[int],
                 rotate_prob: float = 0.,
                 degree: float | Sequence[float] = 180.,
                 cat_max_ratio: float = 1.,
                 flip_prob: Sequence[float] = (0.5, 0.5),
                 pad_val: int = 0,
                 seg_pad_val: int = 255) -> None:
        self.crop_size = _pair('crop_size', (crop_size, crop_size) if isinstance(crop_size, int) else crop_size, 1)
        self.rotate_prob = rotate_prob
        self.degree = sorted(_pair('degree', (-degree, degree) if isinstance(degree, (int, float)) else degree))
        self.cat_max_ratio = cat_max_ratio
        self.flip_prob = _pair('flip_prob', flip_prob, 0, 1)
        self.pad_val = pad_val
        self.seg_pad_val = seg_pad_val

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw a sample."""
        images, label = get_dates(results, self), results['gt_seg_map']
        # the order of the draws is that of the replaced transforms
        rotate, angle = np.random.rand() < self.rotate_prob, _uniform(self.degree)
        size = label.shape
        # the matrix of mmcv.imrotate
        centre = ((size[1] - 1) * 0.5, (size[0] - 1) * 0.5)
        matrix = cv2.getRotationMatrix2D(centre, -angle, 1.) if rotate else None
        _prefetch(label)
        for attempt in range(11):  # the last one is accepted in any case
            window = self._draw_window(size)
            place, to_crop = _find_source(window, matrix)
            if self.cat_max_ratio < 1 and attempt < 10 and not (label[place] == 1).any():
                continue  # without a changed pixel, the classes cannot be mixed
            crop = _cut(label, place, to_crop, window[2:], cv2.INTER_NEAREST, self.seg_pad_val)
            if self._is_mixed(crop):
                break
        for image in images:
            _prefetch(image[place])
        crops = [_cut(image, place, to_crop, window[2:], cv2.INTER_LINEAR, self.pad_val) for image in images]
        maps = {name: _cut(results[name], place, to_crop, window[2:], cv2.INTER_NEAREST, self.seg_pad_val)
                for name in results.get('seg_fields', ()) if name != 'gt_seg_map'} | dict(gt_seg_map=crop)
        for prob, axis in zip(self.flip_prob, (1, 0)):
            if np.random.random() < prob:
                crops = [_flip(image, axis) for image in crops]
                maps = {name: _flip(found, axis) for name, found in maps.items()}
        results['img'] = [np.ascontiguousarray(image) for image in crops]
        results.update({name: np.ascontiguousarray(found) for name, found in maps.items()})
        results['img_shape'] = crop.shape
        return results

    def _draw_window(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Draw top, left, height and width of the crop."""
        margins = [max(side - crop, 0) for side, crop in zip(size, self.crop_size)]
        top, left = (np.random.randint(0, margin + 1) for margin in margins)
        return top, left, min(size[0], self.crop_size[0]), min(size[1], self.crop_size[1])

    def _is_mixed(self, label: np.ndarray) -> bool:
        if self.cat_max_ratio >= 1:
            return True
        unchanged, changed = (np.count_nonzero(label == value) for value in (0, 1))
        least, most = sorted((unchanged, changed))
        return bool(least > 0 and most / (least + most) < self.cat_max_ratio)


def _find_source(window: tuple[int, int, int, int],
                 matrix: np.ndarray | None) -> tuple[tuple[slice, slice], np.ndarray | None]:
    """Find the source rows and columns of a window of the rotated image, and the matrix that maps them to it."""
    top, left, height, width = window
    if matrix is None:
        return np.s_[top:top + height, left:left + width], None
    to_crop = matrix.copy()
    to_crop[:, 2] -= left, top
    # the source of the window's corners, with a margin of two pixels for the interpolation
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]])
    x, y = cv2.invertAffineTransform(to_crop) @ corners.T
    x0, y0 = max(0, int(x.min()) - 2), max(0, int(y.min()) - 2)
    to_crop[:, 2] += to_crop[:, :2] @ (x0, y0)
    return np.s_[y0:max(0, int(y.max()) + 4), x0:max(0, int(x.max()) + 4)], to_crop


def _prefetch(part: np.ndarray) -> None:
    """Let the operating system prefetch part of a memory-mapped file in one go rather than page by page."""
    file: Any = part
    while isinstance(file, np.ndarray):
        file = file.base
    if isinstance(file, mmap.mmap) and hasattr(file, 'madvise') and part.size and part.strides[0] > 0:
        start = part.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_WILLNEED, page, start + len(part) * part.strides[0] - page)


def _cut(image: np.ndarray, place: tuple[slice, slice], to_crop: np.ndarray | None, size: tuple[int, int],
         interpolation: int, pad_val: int) -> np.ndarray:
    """Cut a region out of an image and, if there is a matrix, warp it to a size (height, width)."""
    part = image[place]
    if to_crop is None:
        return part
    shape = *size, *image.shape[2:]
    if part.size == 0:
        return np.full(shape, pad_val, image.dtype)
    warped = cv2.warpAffine(
        np.ascontiguousarray(part), to_crop, size[::-1], flags=interpolation, borderValue=(pad_val, ) * 4)
    return warped.reshape(shape)  # OpenCV drops the axis of a single channel


def _flip(image: np.ndarray, axis: int) -> np.ndarray:
    return cv2.flip(image, axis).reshape(image.shape)  # NumPy copies a mirrored row 30 times slower


@TRANSFORMS.register_module()
class PairPhotoMetricDistortion(BaseTransform):
    """Distort brightness, contrast, saturation and hue of each date independently.

    The samples equal those of mmseg's ``PhotoMetricDistortion``, applied to one date after the other, bit for bit. Each
    of its steps depends on a single 8-bit channel, so it is done by a lookup table of 256 values.

    Required key: ``img``, the list of images, (H, W, 3), BGR, uint8.

    Args:
        brightness_delta: Largest change of brightness, in grey levels.
        contrast_range: Smallest and largest factor of contrast.
        saturation_range: Smallest and largest factor of saturation.
        hue_delta: Largest change of hue, in units of two degrees.

    Raises:
        ValueError: From ``transform``, if an image is not (H, W, 3), uint8.
    """

    def __init__(self,
                 brightness_delta: int = 32,
                 contrast_range: Sequence[float] = (0.5, 1.5),
                 saturation_range: Sequence[float] = (0.5, 1.5),
                 hue_delta: int = 18) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Distort both dates."""
        results['img'] = [self._distort(image) for image in get_dates(results, self)]
        return results

    def _distort(self, image: np.ndarray) -> np.ndarray:
        if image.dtype != np.uint8 or image.shape[2:] != (3, ):
            raise ValueError(f'PairPhotoMetricDistortion needs colour images, (H, W, 3), uint8, but got {image.dtype} '
                             f'of {image.shape}. Fix: for other bands or values, use ifn_plugin.BandDistortion.')
        # the order of the draws is that of the replaced transform
        levels = np.arange(256, dtype=np.uint8)
        before = levels
        if np.random.randint(2):
            before = _scale(before, offset=np.random.uniform(-self.brightness_delta, self.brightness_delta))
        contrast_first = np.random.randint(2)
        if contrast_first and np.random.randint(2):
            before = _scale(before, _uniform(self.contrast_range))
        saturation = hue = None
        if np.random.randint(2):
            saturation = _scale(levels, _uniform(self.saturation_range))
        if np.random.randint(2) and self.hue_delta:
            hue = ((levels.astype(int) + np.random.randint(-self.hue_delta, self.hue_delta)) % 180).astype(np.uint8)
        after = levels
        if not contrast_first and np.random.randint(2):
            after = _scale(after, _uniform(self.contrast_range))
        if before is not levels:
            image = cv2.LUT(image, before)
        # two conversions, as in the replaced transform: each one rounds the colours
        for table, channel in ((saturation, 1), (hue, 0)):
            if table is not None:
                hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
                hsv[..., channel] = cv2.LUT(hsv[..., channel], table)
                image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return cv2.LUT(image, after) if after is not levels else image


def _pair(name: str, values: Any, low: float = -np.inf, high: float = np.inf) -> tuple[Any, Any]:
    if not isinstance(values, Sequence) or len(values) != 2 or not all(low <= value <= high for value in values):
        limits = f' from {low} to {high}' if high < np.inf else f' of at least {low}' if low > -np.inf else ''
        raise ValueError(f'{name}={values!r}. Fix: two numbers{limits}.')
    return values[0], values[1]


def _scale(levels: np.ndarray, factor: float = 1., offset: float = 0.) -> np.ndarray:
    scaled = levels.astype(np.float32) * factor + offset
    return np.asarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _uniform(limits: Sequence[float]) -> float:
    low, high = limits
    return float(np.random.uniform(low, high))
