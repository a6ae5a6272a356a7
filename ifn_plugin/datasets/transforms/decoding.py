"""Decoding of image files, with diagnostics for those that cannot be decoded."""

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import EXTRASAMPLES, PHOTOMETRIC_INTERPRETATION, SAMPLESPERPIXEL, ImageFileDirectory_v2

from ifn_plugin.fileio import any_size

PNG, JPEG, TIFF = b'\x89PNG', b'\xff\xd8', (b'II', b'MM')

REPLACE = 'Fix: replace it, or remove it and its counterparts.'

OTHER_BANDS = 'ifn_plugin.LoadBands loads other bands'


def decode(content: bytes, path: str) -> np.ndarray:
    """Decode an image and apply its EXIF orientation, as viewers and mmcv's colour images do.

    Args:
        content: The file's content.
        path: The file's name, for messages.

    Returns:
        The image as stored in the file, (H, W) or (H, W, C), colours in BGR order.

    Raises:
        ValueError: If it cannot be decoded, or not unambiguously into one image; the message gives the reason.
    """
    if not content:
        raise ValueError(f'{path} is empty (0 bytes). {REPLACE}')
    parts = set()
    if content.startswith(PNG):
        # every chunk, since decoders ignore damage to optional ones, such as the orientation
        try:
            parts = _check_parts(content)
        except (struct.error, ValueError) as error:
            raise ValueError(f'{path} is damaged ({len(content)} bytes: {error}). {REPLACE}') from error
        if b'acTL' in parts:
            raise ValueError(f'{path} is animated. Fix: save the single frame to use.')
    # some versions of OpenCV pad truncated files
    elif content.startswith(JPEG) and content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        raise ValueError(f'{path} is damaged ({len(content)} bytes: it has no end). {REPLACE}')
    elif content.startswith((b'GIF8', b'RIFF')) and _is_animated(content):
        raise ValueError(f'{path} is animated. Fix: save the single frame to use.')
    try:
        image = mmcv.imfrombytes(content, flag='color' if content.startswith(JPEG) else 'unchanged', backend='cv2')
        # 'color' applies the orientation but drops 16 bits and transparency, which 'unchanged' keeps to be rejected
        if image is not None and image.dtype == np.uint8 and not is_transparent(image) and (
                b'eXIf' in parts or (image.ndim == 3 and not content.startswith((PNG, JPEG, *TIFF)))):
            image = mmcv.imfrombytes(content, flag='color', backend='cv2')
    except (cv2.error, MemoryError) as error:
        raise ValueError(f'{path} {_explain(content, path, error)}') from error
    if image is None:
        raise ValueError(f'{path} {_explain(content, path)}')
    samples, alpha, negative = (
        _read_channels(content) if image.ndim == 2 or is_transparent(image) else (0, True, False))
    if negative:
        raise ValueError(f'{path} stores white as 0 (MINISWHITE): OpenCV inverts it, GDAL does not. Fix: save it with '
                         'black as 0.')
    if image.ndim == 2 and samples > 1:
        raise ValueError(f'{path} has {samples} channels, of which OpenCV reads one. Fix: save only the channel to '
                         'use, or only red, green and blue (gdal_translate -co PHOTOMETRIC=RGB); '
                         f'{OTHER_BANDS}.')
    if samples == 4 and not alpha:
        raise ValueError(f'{path} has four channels, and the fourth is not marked as alpha: it is a band, such as near '
                         'infrared. Fix: save only red, green and blue (gdal_translate -b 1 -b 2 -b 3); '
                         f'{OTHER_BANDS}.')
    return np.asarray(image)


def read_indices(content: bytes) -> tuple[np.ndarray, bool] | None:
    """Read the indices of an intact image with a colour table, as GDAL and mmseg's label loader do.

    Args:
        content: The file's content.

    Returns:
        The indices, (H, W), uint8, and whether their greys are inverted: index 0 is lighter than all others that
        occur. ``None`` if the image has no colour table, or Pillow cannot read it.
    """
    # byte 25 is a PNG's colour type: looked at first, since opening the image is slow
    if content.startswith(JPEG) or (content.startswith(PNG) and content[25] != 3):
        return None
    try:
        with any_size(), Image.open(io.BytesIO(content)) as image:
            # transparent images are rejected elsewhere
            if image.mode != 'P' or image.convert('RGBA').getchannel('A').getextrema()[0] != 255:
                return None
            colours = np.array(image.getpalette() or []).reshape(-1, 3)
            indices = np.asarray(ImageOps.exif_transpose(image))
    except Exception:  # an invalid header can raise anything
        return None
    used = [index for index in np.unique(indices).tolist() if index < len(colours)]
    is_grey = all(np.ptp(colours[index]) == 0 for index in used)
    inverted = (is_grey and len(used) > 1 and used[0] == 0
                and colours[0, 0] > max(colours[index, 0] for index in used[1:]))
    return indices, bool(inverted)


def has_one_bit(content: bytes) -> bool:
    """Return whether an image has pixels of one bit."""
    return _read_header(content, 'mode') == '1'


def _is_animated(content: bytes) -> bool:
    return bool(_read_header(content, 'is_animated'))


def _read_header(content: bytes, name: str) -> Any:
    """Return an attribute of Pillow's image; ``None`` if it has none, or Pillow cannot open the image."""
    try:
        with any_size(), Image.open(io.BytesIO(content)) as image:
            return getattr(image, name, None)
    except Exception:  # an invalid header can raise anything; OpenCV reports damage
        return None


def is_transparent(image: np.ndarray) -> bool:
    """Return whether the last of four channels makes any pixel transparent."""
    return image.ndim == 3 and image.shape[2] == 4 and bool((image[..., 3] != 255).any())


def _read_channels(content: bytes) -> tuple[int, bool, bool]:
    """Return how many channels a TIFF has, 0 for other formats; if the first extra one is alpha; if 0 is white."""
    if not content.startswith(TIFF):
        return 0, True, False
    try:
        # not with Image.open, which does not support every layout of channels
        directory = ImageFileDirectory_v2(content[:16 if 43 in content[2:4] else 8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damage is reported elsewhere
            directory.load(file)
        # 1 and 2 are two kinds of alpha, 0 is anything else
        return (int(directory.get(SAMPLESPERPIXEL, 1)), directory.get(EXTRASAMPLES, (0, ))[0] in (1, 2),
                directory.get(PHOTOMETRIC_INTERPRETATION) == 0)
    except Exception:  # an invalid header can raise anything; OpenCV reports damage
        return 0, True, False


def _check_parts(content: bytes) -> set[bytes]:
    """Verify the checksums of a PNG's chunks (https://www.w3.org/TR/png-3/#5Chunk-layout) and return their types."""
    # not with Pillow's verify, which rejects intact images that are large or contain long texts
    place, kinds = 8, set()
    while place < len(content):
        length, kind = struct.unpack_from('>I4s', content, place)
        checksum, = struct.unpack_from('>I', content, place + 8 + length)
        if zlib.crc32(memoryview(content)[place + 4:place + 8 + length]) != checksum:
            raise ValueError(f'the checksum of its chunk {kind!r} differs')
        kinds.add(kind)
        if kind == b'IEND':
            return kinds
        place += 12 + length
    raise ValueError('it has no end')


def _explain(content: bytes, path: str, error: BaseException | None = None) -> str:
    """Explain why OpenCV cannot decode a file and what to do; the text follows the file's name."""
    reason = ' '.join(str(error or 'OpenCV gives no reason').split())
    limit = re.search(r'CV_(IO_MAX_IMAGE_\w+)', reason)
    if limit:
        return (f"exceeds OpenCV's size limit. Fix: set the environment variable OPENCV_{limit[1]} to a higher value "
                'before Python starts, cut the image into tiles, or save it as GeoTIFF, which ifn_plugin.LoadBands '
                'reads, and predict window by window.')
    if isinstance(error, MemoryError) or 'Insufficient memory' in reason:
        return f'needs more memory than is available ({reason}). Fix: cut the image into tiles.'
    samples = _read_channels(content)[0]
    if samples > 4:
        return f'has {samples} channels, but an image needs 3 and a label 1. {OTHER_BANDS}.'
    kind = _find_format(content, path)
    if kind:
        return (f'is an image ({kind}) that OpenCV cannot read ({reason}). Fix: save it as PNG, or as TIFF with '
                'another compression (gdal_translate -co COMPRESS=DEFLATE), or load it with ifn_plugin.LoadBands, '
                'which supports the formats of rasterio.')
    if content.startswith((PNG, JPEG, *TIFF, b'BM', b'GIF8', b'RIFF')):
        compression = ', or compressed in a way that OpenCV does not support' if samples else ''
        return f'is damaged{compression} ({len(content)} bytes: {reason}). {REPLACE}'
    return f'is not a readable image ({len(content)} bytes that begin with {content[:20]!r}). {REPLACE}'


def _find_format(content: bytes, path: str) -> str | None:
    """Return the format of an image that Pillow or rasterio can read completely; ``None`` for any other file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with any_size(), Image.open(io.BytesIO(content)) as image:
                image.load()
                return image.format
        except Exception:  # invalid content can raise anything
            pass
        try:
            import rasterio
            # by path, since a file on disk may have its header in a sidecar file
            with rasterio.open(path if Path(path).is_file() else io.BytesIO(content)) as raster:
                for _, window in raster.block_windows(1):
                    raster.read(1, window=window)
                return str(raster.driver)
        except Exception:  # rasterio may also be missing
            return None
