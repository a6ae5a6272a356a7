"""Loading of pairs and labels."""

import functools
import io
import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from ifn_plugin.datasets.transforms.dates import PairPaths
from ifn_plugin.datasets.transforms.decoding import OTHER_BANDS, decode, has_one_bit, is_transparent, read_indices
from ifn_plugin.registry import TRANSFORMS
from ifn_plugin.utils import abbreviate


class _Loader(BaseTransform):
    """Base class of loaders.

    Args:
        backend_args: Config of mmengine's file backend, for files that are not on disk.
    """

    def __init__(self, backend_args: dict[str, Any] | None = None) -> None:
        self.backend_args = backend_args

    def _read(self, path: str) -> np.ndarray:
        """Read an image as stored, (H, W) or (H, W, C), colours in BGR order; packed images are memory-mapped."""
        if path.endswith('.npy'):
            return self._map(path)
        if not fileio.exists(path, backend_args=self.backend_args):
            raise FileNotFoundError(f'{path}: no such file.')
        return self._decode(fileio.get(path, backend_args=self.backend_args), path)

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        return decode(content, path)

    @staticmethod
    def _map(path: str) -> np.ndarray:
        try:
            with Path(path).open('rb') as file:
                start = file.read(10)
                layout = _parse_layout(start + file.read(int.from_bytes(start[8:], 'little')))
                # copy-on-write, since in-place transforms must not change the file
                image = np.memmap(file, mode='c', **layout)
                if file.seek(0, io.SEEK_END) != layout['offset'] + image.nbytes:
                    raise ValueError('its size does not match its header')
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{path}: no such file.') from error
        except Exception as error:  # a damaged header can raise anything
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path} is not a valid output of pack_dataset ({reason}). Fix: remove it and pack the '
                             'data set again.') from error
        return np.asarray(image)


@functools.lru_cache
def _parse_layout(header: bytes) -> dict[str, Any]:
    """Return ``np.memmap``'s arguments for an array file; cached, since images of one size share a slow header."""
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError('it has another version of the .npy format')
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError('it holds objects')
    return dict(dtype=dtype, shape=shape, order='F' if fortran_order else 'C', offset=file.tell())


@TRANSFORMS.register_module()
class LoadPair(_Loader):
    """Load both dates of a pair as 8-bit colour images.

    Grey images become three equal channels; a fully opaque alpha channel is dropped.

    Required key: ``img_path``, the two files. Added keys: ``img``, the list of both images, each (H, W, 3), BGR, uint8;
    ``img_shape`` and ``ori_shape``, (H, W).

    Args:
        backend_args: Config of mmengine's file backend, for files that are not on disk.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not an image, not 8-bit or partly transparent, or the two sizes differ; the message
            names the file.
    """

    # read by what uses the loaded images: channel order and number of channels
    bgr = True
    in_channels = 3

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the pair."""
        paths = results['img_path']
        if isinstance(paths, (str, Path)) or len(paths) != 2:
            raise ValueError(f'{type(self).__name__} needs the two files of a pair, img_path=[date 1, date 2], but got '
                             f'{paths!r}. Fix: use a data set of pairs, such as ifn_plugin.LEVIRCDDataset.')
        paths = results['img_path'] = PairPaths(map(os.fspath, paths))
        images = [self._load(path, results) for path in paths]
        shapes = [image.shape[:2] for image in images]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'The dates of a pair differ in size (height, width): {paths[0]} is {shapes[0]}, {paths[1]} is '
                f'{shapes[1]}. Fix: bring both to the same grid.')
        results['img'] = images
        results['img_shape'] = results['ori_shape'] = shapes[0]
        return results

    def _load(self, path: str, results: dict[str, Any]) -> np.ndarray:
        image = self._read(path)
        if image.dtype != np.uint8:
            raise ValueError(
                f'{path} has {image.dtype} values, but 8-bit images are needed. Fix: convert it with one scaling for '
                'all images of the data set, or load it with ifn_plugin.LoadBands.')
        if image.ndim == 2:
            image = image[..., None]
        channels = image.shape[2]
        if is_transparent(image):
            band = (', or, if its fourth channel is a band such as near infrared, load it with ifn_plugin.LoadBands'
                    if path.lower().endswith(('.tif', '.tiff')) else '')  # GDAL marks such a band as alpha
            raise ValueError(f'{path} has transparent pixels, whose colour is unknown. Fix: save it without '
                             f'alpha{band}.')
        if channels == 4:
            image = np.ascontiguousarray(image[..., :3])
        elif channels == 1:
            image = image.repeat(3, axis=2)
        elif channels != 3:
            raise ValueError(f'{path} has {channels} channels, but 3 are needed. {OTHER_BANDS}.')
        return image

    def from_array(self, image: Any, name: str) -> np.ndarray:
        """Convert an array, (H, W, 3), RGB, uint8, as if it had been loaded from a file.

        Args:
            image: The array.
            name: Name of the image, for messages.

        Returns:
            The image, (H, W, 3), BGR, uint8.

        Raises:
            ValueError: If it is not such an array.
        """
        if np.ma.is_masked(image):
            raise ValueError(f'{name} has masked pixels, but LoadPair knows no nodata. Fix: image.filled(0).')
        if not is_image(image, 3) or image.dtype != np.uint8:
            raise ValueError(f'{name} is {describe(image)}, but an RGB image, uint8 (H, W, 3), is needed for both '
                             'dates, or a file for both.')
        bgr: np.ndarray = np.ma.getdata(image)[..., ::-1]
        return bgr

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Convert a loaded image to a picture for display, (H, W, 3), RGB, uint8."""
        return image[..., ::-1]


def is_image(value: Any, channels: int) -> bool:
    """Check whether a value is an array of numbers, (H, W, ``channels``), that is not empty."""
    return (isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == channels and value.size > 0
            and value.dtype.kind in 'buifc')


def describe(value: Any) -> str:
    """Describe what is not the expected array, for messages: a path, data type and shape, or the type."""
    if isinstance(value, (str, Path)):
        return repr(value)
    return ' '.join(str(getattr(value, name)) for name in ('dtype', 'shape') if hasattr(value, name)) or (
        type(value).__name__)


@TRANSFORMS.register_module()
class LoadChangeLabel(_Loader):
    """Load a change label: 0 is unchanged, 255 (LEVIR-CD) or 1 is changed.

    For an image with a colour table, the indices are the values, as in GDAL and mmseg, whatever their colours; if index
    0 is shown lighter than the rest, a warning says so.

    Required key: ``seg_map_path``. Optional keys: ``ori_shape``, if the images are loaded, and ``valid``, from
    ``LoadBands``. Added key: ``gt_seg_map``, (H, W), uint8 of 0, 1 and 255 (ignored), appended to ``seg_fields``.

    Args:
        changed: The value that means "changed": 255; or 1, in which case 255 is ignored. ``None`` accepts either as
            changed, and rejects a file that has both.
        threshold: Alternative for labels with lossy compression, such as SVCD's: values above are changed, and nothing
            is ignored.
        backend_args: Config of mmengine's file backend, for files that are not on disk.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not an image, differs in size from the pair, or has other values; the message names it.
    """

    def __init__(self,
                 changed: int | None = None,
                 threshold: int | None = None,
                 backend_args: dict[str, Any] | None = None) -> None:
        super().__init__(backend_args)
        if changed not in (None, 1, 255):
            raise ValueError(f'changed={changed!r} is invalid. Fix: 255, 1 or None.')
        if threshold is not None and (changed is not None or not 0 <= threshold < 255):
            raise ValueError(f'threshold={threshold!r} with changed={changed!r} is invalid. Fix: set one of them only, '
                             'threshold from 0 to 254.')
        self.changed = changed
        self.threshold = threshold

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        image = super()._decode(content, path)
        if self.changed == 1 and has_one_bit(content):
            return image // 255  # OpenCV makes 0 and 255 of one bit
        table = read_indices(content)
        if table is None:
            return image
        if table[1]:
            warnings.warn(f'Labels in {Path(path).parent} have a colour table that shows 0 lighter than the rest. '
                          'Their values are used: 0 is unchanged, whatever its colour. Fix, if that is wrong: save '
                          'them without a colour table.', stacklevel=2)
        return table[0]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the label."""
        if results.get('seg_map_path') is None:
            raise ValueError('LoadChangeLabel needs the file of a label, seg_map_path. Fix: for images without labels, '
                             'use ifn_plugin.ChangeDetector, or leave LoadChangeLabel out of the pipeline.')
        path = os.fspath(results['seg_map_path'])
        label = self._read(path)
        if is_transparent(label):
            raise ValueError(f'{path} has transparent pixels, whose class is unknown. Fix: save it without alpha.')
        if label.ndim == 3:
            if (label[..., :3] != label[..., :1]).any():
                raise ValueError(f'{path} is a colour image, but a change label must have one grey channel of 0 and '
                                 '255.')
            label = label[..., 0]
        shape = tuple(results.get('ori_shape', label.shape)[:2])
        if label.shape != shape:
            raise ValueError(
                f'{path} is {label.shape} (height, width), but its pair {results["img_path"][0]} is {shape}. A label '
                'must have the size of its images.')
        if label.dtype == np.int8 and path.endswith('.npy'):  # validated when packed; -1 is ignored
            return self._finish(results, label.view(np.uint8))
        if label.dtype != np.uint8:
            with np.errstate(invalid='ignore'):  # NaN
                whole = label.astype(np.uint8)
            if (whole != label).any():
                raise ValueError(f'{path} has {label.dtype} values, but those of a change label must fit into 8 bits '
                                 '(uint8).')
            label = whole
        if self.threshold is not None:
            return self._finish(results, (label > self.threshold).astype(np.uint8))
        known = (0, 255) if self.changed == 255 else (0, 1, 255)
        counts = {value: np.count_nonzero(label == value) for value in known}
        if sum(counts.values()) < label.size:
            unknown = sorted(set(np.unique(label).tolist()).difference(known))
            raise ValueError(
                f'{path} has the values {abbreviate(unknown, 6)}, but a change label has 0 for unchanged and '
                f'{self.changed or "255 or 1"} for changed. Fix: threshold it and save it losslessly (PNG, not JPEG), '
                'or set threshold=127 in LoadChangeLabel.')
        if self.changed is None and counts[1] and counts[255]:
            raise ValueError(
                f'{path} has both 1 and 255. Fix: set changed=1 in LoadChangeLabel if 255 means ignored.')
        meaning = np.zeros(256, np.uint8)
        meaning[1], meaning[255] = 1, 255 if self.changed == 1 else 1
        return self._finish(results, cv2.LUT(label, meaning))

    @staticmethod
    def _finish(results: dict[str, Any], label: np.ndarray) -> dict[str, Any]:
        if 'valid' in results:
            label = np.where(results.pop('valid'), label, np.uint8(255))
        results['gt_seg_map'] = label
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results
