"""Colour tables, and what is said of files that OpenCV does not decode: damaged is said of damaged ones only."""

import io
import re
import warnings

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image, ImageOps

from ifn_plugin.datasets import LoadBands, LoadChangeLabel, LoadPair
from ifn_plugin.datasets.transforms.decoding import decode, read_indices

LABEL = np.zeros((12, 20), np.uint8)
LABEL[2:7, 3:9] = 1
NOISE = np.random.default_rng(0).integers(0, 255, (4, 12, 20)).astype(np.uint8)
WHITE, BLACK, RED, GREEN = (255, ) * 3, (0, ) * 3, (255, 0, 0), (0, 255, 0)


def with_table(path, values, *colours, **options):
    image = Image.fromarray(values)
    image.putpalette([level for colour in colours for level in colour])
    image.save(path, **options)
    return str(path)


def label_of(path, changed=None):
    return LoadChangeLabel(changed)(dict(seg_map_path=str(path)))['gt_seg_map']


def load(path):
    return LoadPair()(dict(img_path=[str(path), str(path)]))['img'][0]


def refusal(load, *arguments):
    with pytest.raises(ValueError) as error:
        load(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


# colour tables


@pytest.mark.parametrize('suffix', ['png', 'tif', 'bmp', 'gif'])
@pytest.mark.parametrize('colours', [(WHITE, BLACK), (BLACK, WHITE), (RED, GREEN), (WHITE, RED), (RED, RED)])
def test_labels_with_a_colour_table_are_read_by_their_values(tmp_path, suffix, colours):
    path = with_table(tmp_path / f'label.{suffix}', LABEL, *colours)
    if suffix == 'gif' and (np.asarray(Image.open(path)) != LABEL).any():
        pytest.skip('Pillow has sorted the colours')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        assert np.array_equal(label_of(path), LABEL)
    # of a colour that is no grey, nobody can say that it means the opposite
    told = [str(warning.message) for warning in caught if 'colour table' in str(warning.message)]
    assert len(told) == (colours == (WHITE, BLACK))
    assert all(f'Labels in {tmp_path} have a colour table that shows 0 lighter' in text for text in told)


def test_a_colour_table_of_greys_in_order_changes_nothing(tmp_path):
    greys = [(level, ) * 3 for level in range(256)]
    path = with_table(tmp_path / 'label.png', LABEL * 255, *greys)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert np.array_equal(label_of(path), LABEL) and np.array_equal(label_of(path, 255), LABEL)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_colour_tables_of_few_bits(tmp_path, bits):
    path = with_table(tmp_path / 'label.png', LABEL, WHITE, BLACK, bits=bits)
    with pytest.warns(UserWarning, match='colour table'):
        assert np.array_equal(label_of(path), LABEL)


def test_ignored_pixels_of_a_colour_table(tmp_path):
    values = LABEL.copy()
    values[0] = 255
    path = with_table(tmp_path / 'label.png', values, BLACK, WHITE, *[GREEN] * 254)
    assert np.array_equal(label_of(path, changed=1), values)


def test_classes_of_a_colour_table_are_refused(tmp_path):
    path = with_table(tmp_path / 'label.png', LABEL * 3, BLACK, BLACK, WHITE, WHITE)
    assert re.search(r'label\.png has the values 3, but', refusal(label_of, path))


def test_a_transparent_colour_of_a_table_is_refused(tmp_path):
    path = with_table(tmp_path / 'label.png', LABEL, BLACK, WHITE, transparency=0)
    assert 'transparent pixels, whose class is unknown' in refusal(label_of, path)


def test_images_with_a_colour_table_are_read_by_their_colours(tmp_path):
    path = with_table(tmp_path / 'date.png', LABEL, RED, GREEN)
    assert np.array_equal(load(path)[..., 1], LABEL * 255)


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_plain_labels_are_not_opened_twice(monkeypatch, suffix):
    monkeypatch.setattr(Image, 'open', None)
    assert read_indices(cv2.imencode(suffix, LABEL)[1].tobytes()) is None


# sound files that OpenCV does not decode


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif', 'bmp'])
def test_images_beyond_opencvs_limit_are_sound(tmp_path, python, suffix):
    cv2.imwrite(str(tmp_path / f'large.{suffix}'), NOISE[0])
    program = ('import os, sys; os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = "100"\n'
               'from ifn_plugin.datasets.transforms.decoding import decode\n'
               'try: decode(open(sys.argv[1], "rb").read(), sys.argv[1])\n'
               'except ValueError as error: print(error)')
    told = python('-c', program, tmp_path / f'large.{suffix}').splitlines()[-1]
    assert f"large.{suffix} exceeds OpenCV's size limit. Fix: set the environment variable OPENCV_IO_MAX_IM" in told
    assert 'damaged' not in told


@pytest.mark.parametrize('error', [MemoryError(), cv2.error(
    'OpenCV(4.11) error: (-4:Insufficient memory) Failed to allocate 9 bytes in function OutOfMemoryError')])
def test_images_beyond_the_memory_are_sound(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    cv2.imwrite(str(tmp_path / 'large.png'), NOISE[0])
    monkeypatch.setattr(mmcv, 'imfrombytes', fail)
    told = refusal(load, tmp_path / 'large.png')
    assert 'large.png needs more memory than is available' in told and 'damaged' not in told


@pytest.mark.parametrize('kind', ['TGA', 'PCX', 'SGI'])
def test_formats_that_pillow_knows_are_sound(tmp_path, kind):
    content = io.BytesIO()
    Image.fromarray(NOISE[:3].transpose(1, 2, 0).copy()).save(content, kind)
    (tmp_path / 'image.png').write_bytes(content.getvalue())
    told = refusal(load, tmp_path / 'image.png')
    assert re.search(rf'image\.png is an image \({kind}\) that OpenCV cannot read .*Fix: save it as PNG', told)
    assert 'damaged' not in told


@pytest.mark.parametrize('driver, name', [('ENVI', 'date.dat'), ('ENVI', 'date'), ('AAIGrid', 'date.asc')])
def test_rasters_that_rasterio_opens_are_sound(tmp_path, driver, name):
    rasterio = pytest.importorskip('rasterio')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if driver == 'AAIGrid':
            (tmp_path / name).write_text('ncols 2\nnrows 2\nxllcorner 0\nyllcorner 0\ncellsize 1\n1 2\n3 4\n')
        else:
            with rasterio.open(tmp_path / name, 'w', driver, 20, 12, 4, dtype='uint8') as file:
                file.write(NOISE)
    told = refusal(load, tmp_path / name)
    assert re.search(rf'{name} is an image \({driver}\) that OpenCV cannot read.*LoadBands', told), told
    assert 'damaged' not in told


@pytest.mark.parametrize('alpha, message', [
    ('NO', r'has four channels, and the fourth is not marked as alpha: it is a band, such as near.*LoadBands'),
    ('YES', r'has transparent pixels.* a band such as near infrared, load it with ifn_plugin\.LoadBands')])
def test_near_infrared_is_not_called_transparency_alone(tmp_path, alpha, message):
    rasterio = pytest.importorskip('rasterio')
    path = str(tmp_path / 'rgbn.tif')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(path, 'w', driver='GTiff', height=12, width=20, count=4, dtype='uint8', photometric='RGB',
                           ALPHA=alpha) as file:
            file.write(NOISE)
    assert re.search(rf'rgbn\.tif {message}', refusal(load, path))
    assert np.array_equal(LoadBands((1, 2, 3))(dict(img_path=[path, path]))['img'][0].transpose(2, 0, 1), NOISE[:3])


# others


@pytest.mark.parametrize('content, message', [
    (b'', r'is empty \(0 bytes\)'),
    (b'version https://git-lfs.github.com/spec/v1', r"is not a readable image .*that begin with b'version"),
    (b'\x89PNG\r\n\x1a\n', r'is damaged \(8 bytes: it has no end'),
    (b'BM' + bytes(40), r'is damaged \(42 bytes'),
    (b'II*\0\x08\0\0\0' + bytes(40), r'is damaged')])
def test_errors_name_what_is_wrong(tmp_path, content, message):
    (tmp_path / 'image.png').write_bytes(content)
    assert re.search(rf'image\.png {message}.*Fix: replace it, or remove it', refusal(load, tmp_path / 'image.png'))


@pytest.mark.parametrize('bits', [1, 8])
def test_white_as_0_is_refused(tmp_path, bits):
    """OpenCV inverts it, rasterio does not."""
    rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
    path = tmp_path / 'a.tif'
    with rasterio.open(path, 'w', driver='GTiff', width=8, height=8, count=1, dtype='uint8', nbits=bits,
                       photometric='MINISWHITE') as raster:
        raster.write(np.eye(8, dtype=np.uint8), 1)
    with pytest.raises(ValueError, match=r'a\.tif stores white as 0 \(MINISWHITE\).*Fix: save it with black as 0'):
        decode(path.read_bytes(), str(path))


@pytest.mark.parametrize('kind', ['GIF', 'WEBP'])
def test_animations_are_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 31)  # Pillow refuses twice as many, the 64 of these
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue')]
    frames[0].save(tmp_path / 'a', kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r'a is animated\. Fix: save the single frame'):
        decode((tmp_path / 'a').read_bytes(), 'a')
    frames[0].save(tmp_path / 'b', kind)
    assert decode((tmp_path / 'b').read_bytes(), 'b').shape == (8, 8, 3)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_of_webp(tmp_path, orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    image.save(tmp_path / 'a.webp', lossless=True, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / 'a.webp')))
    assert np.array_equal(decode((tmp_path / 'a.webp').read_bytes(), 'a.webp')[..., ::-1], expected)
