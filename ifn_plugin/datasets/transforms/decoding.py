"""Decoding image files, and saying what is wrong with those that cannot be."""

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import EXTRASAMPLES, SAMPLESPERPIXEL, ImageFileDirectory_v2

PNG, JPEG, TIFF = b'\x89PNG', b'\xff\xd8', (b'II', b'MM')

REPLACE = 'Fix: replace it, or remove it and its partners.'

OTHER_BANDS = 'ifn_plugin.LoadBands loads other bands'


def decode(content: bytes, path: str) -> np.ndarray:
    """Decode an image and turn it upright where its EXIF data say how, as viewers and mmcv's colour images do.

    Args:
        content: The file.
        path: Its name, for errors.

    Returns:
        The image as it is in the file, (H, W) or (H, W, C), colours in BGR order.

    Raises:
        ValueError: If it cannot be decoded, or to one image with the colours that are meant; it says why.
    """
    if not content:
        raise ValueError(f'{path} is empty (0 bytes). {REPLACE}')
    parts = set()
    if content.startswith(PNG):
        # all of it: decoders pass over what they can do without, such as the way to turn the image
        try:
            parts = _check_parts(content)
        except (struct.error, ValueError) as error:
            raise ValueError(f'{path} is damaged ({len(content)} bytes: {error}). {REPLACE}') from error
        if b'acTL' in parts:
            raise ValueError(f'{path} is animated. Fix: save the one image of it that is meant.')
    # some versions of OpenCV fill up what is missing
    elif content.startswith(JPEG) and content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        raise ValueError(f'{path} is damaged ({len(content)} bytes: it has no end). {REPLACE}')
    try:
        image = mmcv.imfrombytes(content, flag='color' if content.startswith(JPEG) else 'unchanged', backend='cv2')
        # 'unchanged' keeps what 'color' drops, the turning apart: 16 bits and transparent pixels, which are refused
        if image is not None and b'eXIf' in parts and image.dtype == np.uint8 and not is_transparent(image):
            image = mmcv.imfrombytes(content, flag='color', backend='cv2')
    except (cv2.error, MemoryError) as error:
        raise ValueError(f'{path} {_explain(content, path, error)}') from error
    if image is None:
        raise ValueError(f'{path} {_explain(content, path)}')
    samples, alpha = _read_channels(content) if image.ndim == 2 or is_transparent(image) else (0, True)
    if image.ndim == 2 and samples > 1:
        raise ValueError(f'{path} has {samples} channels, of which OpenCV reads one. Fix: save the one that is meant, '
                         'or the three that are red, green and blue (gdal_translate -co PHOTOMETRIC=RGB); '
                         f'{OTHER_BANDS}.')
    if samples == 4 and not alpha:
        raise ValueError(f'{path} has four channels, and the fourth is not marked as alpha: it is a band, such as near '
                         'infrared. Fix: save red, green and blue alone (gdal_translate -b 1 -b 2 -b 3); '
                         f'{OTHER_BANDS}.')
    return np.asarray(image)


def read_indices(content: bytes) -> tuple[np.ndarray, bool] | None:
    """Read the values of a sound image with a colour table, as GDAL does and mmseg's loader of labels.

    Args:
        content: The file.

    Returns:
        The indices, (H, W), uint8, and whether their greys say the opposite: index 0 is lighter than the others that
        occur. ``None`` if the image has no colour table, or is not for Pillow.
    """
    if content.startswith(JPEG) or (content.startswith(PNG) and content[25] != 3):  # the colour type, before any work
        return None
    try:
        with Image.open(io.BytesIO(content)) as image:
            # transparent ones are refused elsewhere
            if image.mode != 'P' or image.convert('RGBA').getchannel('A').getextrema()[0] != 255:
                return None
            colours = np.array(image.getpalette() or []).reshape(-1, 3)
            indices = np.asarray(ImageOps.exif_transpose(image))
    except Exception:  # there is no end to what an odd header can raise
        return None
    used = [index for index in np.unique(indices).tolist() if index < len(colours)]
    grey = all(np.ptp(colours[index]) == 0 for index in used)
    opposite = grey and len(used) > 1 and used[0] == 0 and colours[0, 0] > max(colours[index, 0] for index in used[1:])
    return indices, bool(opposite)


def is_transparent(image: np.ndarray) -> bool:
    """Whether the last of four channels hides anything."""
    return image.ndim == 3 and image.shape[2] == 4 and bool((image[..., 3] != 255).any())


def _read_channels(content: bytes) -> tuple[int, bool]:
    """The number of a TIFF's channels, 0 of anything else, and whether one that is no colour is alpha."""
    if not content.startswith(TIFF):
        return 0, True
    try:
        # not by Image.open, which does not know each way to store several channels
        directory = ImageFileDirectory_v2(content[:16 if 43 in content[2:4] else 8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about a damaged one, which is told of otherwise
            directory.load(file)
        # 1 and 2 are two kinds of alpha, 0 is anything else
        return int(directory.get(SAMPLESPERPIXEL, 1)), directory.get(EXTRASAMPLES, (0, ))[0] in (1, 2)
    except Exception:  # there is no end to what an odd header can raise; whether it is damaged, OpenCV says
        return 0, True


def _check_parts(content: bytes) -> set[bytes]:
    """Compare the parts of a PNG with their checksums (https://www.w3.org/TR/png-3/#5Chunk-layout); their kinds."""
    # Pillow's verify is no way to do it: it refuses sound images beyond a size and long texts in them
    place, kinds = 8, set()
    while place < len(content):
        length, kind = struct.unpack_from('>I4s', content, place)
        checksum, = struct.unpack_from('>I', content, place + 8 + length)
        if zlib.crc32(memoryview(content)[place + 4:place + 8 + length]) != checksum:
            raise ValueError(f'the checksum of its part {kind!r} differs')
        kinds.add(kind)
        if kind == b'IEND':
            return kinds
        place += 12 + length
    raise ValueError('it has no end')


def _explain(content: bytes, path: str, error: BaseException | None = None) -> str:
    """Why OpenCV cannot decode a file, and what to do, to follow its name."""
    reason = ' '.join(str(error or 'OpenCV does not say why').split())
    limit = re.search(r'CV_(IO_MAX_IMAGE_\w+)', reason)
    if limit:
        return (f'is larger than OpenCV reads. Fix: set the environment variable OPENCV_{limit[1]} to more before '
                'Python starts, cut the image into tiles, or save it as GeoTIFF, which ifn_plugin.LoadBands reads, and '
                'predict window by window.')
    if isinstance(error, MemoryError) or 'Insufficient memory' in reason:
        return f'needs more memory than there is ({reason}). Fix: cut the image into tiles.'
    samples, _ = _read_channels(content)
    if samples > 4:
        return f'has {samples} channels, but 3 are needed, in a label 1. {OTHER_BANDS}.'
    kind = _find_format(content, path)
    if kind:
        return (f'is an image ({kind}) that OpenCV does not read ({reason}). Fix: save it as PNG, or as TIFF in '
                'another way (gdal_translate -co COMPRESS=DEFLATE); ifn_plugin.LoadBands reads what rasterio opens.')
    if content.startswith((PNG, JPEG, *TIFF, b'BM', b'GIF8', b'RIFF')):
        packing = ', or compressed in a way that OpenCV does not know' if samples else ''
        return f'is damaged{packing} ({len(content)} bytes: {reason}). {REPLACE}'
    return f'is no image that can be read ({len(content)} bytes that begin with {content[:20]!r}). {REPLACE}'


def _find_format(content: bytes, path: str) -> str | None:
    """The format of an image that Pillow or rasterio can read to its end; ``None`` of any other."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                return image.format
        except Exception:  # there is no end to what odd content can raise
            pass
        try:
            import rasterio
            # a file on disk may have its header in another beside it
            with rasterio.open(path if Path(path).is_file() else io.BytesIO(content)) as raster:
                for _, window in raster.block_windows(1):
                    raster.read(1, window=window)
                return str(raster.driver)
        except Exception:  # rasterio may be missing, too
            return None
