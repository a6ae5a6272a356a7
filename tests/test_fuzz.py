"""Damaged and strange input of every kind: the right result, or an error of one line that names the file.

``IFN_PLUGIN_FUZZ=100 pytest tests/test_fuzz.py`` tries a hundred times as many cases, others in every run.
"""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ifn_plugin.datasets import LEVIRCDDataset, LoadChangeLabel, LoadPair
from ifn_plugin.datasets.packing import check, pack
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.utils.configurations import read_config

FACTOR = int(os.environ.get('IFN_PLUGIN_FUZZ', '1'))
CONFIGS = Path(__file__).parents[1] / 'configs'


def cases(number):
    return settings(max_examples=number * FACTOR, derandomize=FACTOR == 1, deadline=120_000, database=None,
                    suppress_health_check=list(HealthCheck))


def one_line(error, path):
    """The message of an error, after checking its form."""
    message = str(getattr(error, 'value', error))
    assert str(path) in message and '\n' not in message, message
    return message


@st.composite
def damage(draw):
    """A function that does something to bytes, or nothing."""
    kind = draw(st.sampled_from(['cut', 'flip', 'zero', 'insert', 'remove', 'append', 'empty', 'noise']))
    places = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4))
    value = draw(st.binary(min_size=1, max_size=40))

    def apply(content):
        data = bytearray(content)
        for place in places:
            at = int(place * len(data))
            if kind == 'flip' and data:
                data[at] ^= 1 << value[0] % 8
            elif kind == 'zero':
                data[at:at + len(value)] = bytes(len(data[at:at + len(value)]))
            elif kind == 'insert':
                data[at:at] = value
            elif kind == 'remove':
                del data[at:at + len(value)]
        if kind in ('cut', 'empty', 'noise'):
            data = dict(cut=data[:int(places[0] * len(data))], empty=b'', noise=value * 20)[kind]
        return bytes(data) + (value if kind == 'append' else b'')

    apply.kind = kind
    return apply


FORMATS = {
    'PNG': ('.png', ['1', 'L', 'P', 'LA', 'RGB', 'RGBA', 'I;16']),
    'JPEG': ('.jpg', ['L', 'RGB', 'CMYK']),
    'TIFF': ('.tif', ['1', 'L', 'RGB', 'RGBA', 'I;16', 'F']),
    'BMP': ('.bmp', ['1', 'L', 'P', 'RGB']),
}


@st.composite
def pictures(draw, side=24):
    """Format, PIL image and what to save it with."""
    kind = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[kind][1]))
    size = draw(st.tuples(st.integers(1, side), st.integers(1, side)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colours = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    if mode == 'I;16':
        image = Image.fromarray(rng.integers(0, 2**16, (size[1], size[0]), np.uint16))
    elif mode == 'F':
        image = Image.fromarray(rng.random((size[1], size[0]), np.float32))
    else:
        image = colours.convert(mode)
    if mode in ('LA', 'RGBA') and draw(st.booleans()):
        image.putalpha(Image.fromarray(rng.integers(0, 255, (size[1], size[0]), np.uint8)))
    options = {}
    if kind in ('PNG', 'JPEG', 'TIFF') and draw(st.booleans()):
        options['exif'] = Image.Exif()
        options['exif'][0x112] = draw(st.integers(1, 8))
    if kind == 'JPEG':
        options['progressive'] = draw(st.booleans())
    if kind == 'TIFF' and draw(st.booleans()):
        options['compression'] = 'tiff_deflate'
    if kind in ('PNG', 'TIFF') and draw(st.booleans()):  # animated; several pages, of which the first counts
        options |= dict(save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)])
    return kind, image, options


def saved(image, kind, options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def load(path):
    return LoadPair().transform(dict(img_path=[str(path), str(path)]))['img']


NAMES = st.sampled_from(['plain', 'with space', '变化检测', "quote'", '.dotted.name', 'ä\u0301', '100%s{0}'])


@cases(150)
@given(picture=pictures(), name=NAMES)
def test_undamaged_images_have_the_right_pixels_or_are_refused(tmp_path_factory, picture, name):
    kind, image, options = picture
    path = tmp_path_factory.mktemp('images') / (name + FORMATS[kind][0])
    content = saved(image, kind, options)
    path.write_bytes(content)
    transparent = image.mode in ('LA', 'RGBA') and image.getchannel('A').getextrema()[0] < 255
    animated = kind == 'PNG' and 'save_all' in options
    if animated or transparent or image.mode in ('I;16', 'F'):
        with pytest.raises(ValueError) as error:
            load(path)
        event('refused')
        fault = 'animated' if animated else 'transparent' if transparent else '8-bit'
        assert fault in one_line(error, path)
        return
    event('loaded')
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert('RGB'))[..., ::-1]
    for array in load(path):
        assert array.dtype == np.uint8 and array.shape == expected.shape
        difference = np.abs(array.astype(int) - expected)
        if kind != 'JPEG':
            assert difference.max() == 0
        elif image.mode != 'CMYK':  # libraries differ in these colours
            assert difference.max() <= 8 and difference.mean() < 2


@cases(400)
@given(picture=pictures(), harm=damage())
def test_damaged_images_have_the_right_pixels_or_are_named(tmp_path_factory, picture, harm):
    kind, image, options = picture
    path = tmp_path_factory.mktemp('images') / ('damaged' + FORMATS[kind][0])
    content = saved(image, kind, options)
    path.write_bytes(content)
    try:
        expected = load(path)[0]
    except ValueError:
        expected = None
    path.write_bytes(harm(content))
    try:
        array = load(path)[0]
    except ValueError as error:
        one_line(error, path)
        event(f'{kind} refused')
        return
    event(f'{kind} loaded')
    assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    assert (kind, harm.kind) != ('JPEG', 'cut')
    # only PNG has a checksum for everything; what stands after its end is nobody's
    if kind == 'PNG' and expected is not None:
        assert np.array_equal(array, expected)


@cases(100)
@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=4),
       mode=st.sampled_from(['L', 'P', 'RGB', 'RGBA', '1']), changed=st.sampled_from([None, 1, 255]),
       table=st.binary(min_size=768, max_size=768), harm=st.none() | damage())
@pytest.mark.filterwarnings('ignore:Labels in')
def test_labels_are_right_or_refused(tmp_path_factory, values, mode, changed, table, harm):
    path = tmp_path_factory.mktemp('labels') / 'label.png'
    image = Image.fromarray(np.resize(np.array(values, np.uint8), (5, 7))).convert(mode)
    if mode == 'P':  # any colours: the indices count
        image.putpalette(table)
    path.write_bytes(saved(image, 'PNG', {}))
    array = np.asarray(image if mode == 'P' else image.convert('L'))
    if harm is not None:
        path.write_bytes(harm(path.read_bytes()))
    fits = set(np.unique(array)) <= ({0, 255} if changed == 255 else {0, 1, 255})
    fits &= not (changed is None and {1, 255} <= set(np.unique(array)))
    try:
        results = LoadChangeLabel(changed).transform(dict(seg_map_path=str(path), img_path=['date 1', 'date 2']))
    except ValueError as error:
        one_line(error, path)
        assert harm is not None or not fits
        event('refused')
        return
    event('loaded')
    assert fits
    expected = np.where(array == 255, 255 if changed == 1 and mode != '1' else 1, array)
    assert np.array_equal(results['gt_seg_map'], expected)


@cases(300)
@given(harm=damage(), shape=st.sampled_from([(5, 7, 3), (5, 7)]))
def test_damaged_packed_images_are_right_or_named(tmp_path_factory, harm, shape):
    path = tmp_path_factory.mktemp('packed') / 'image.npy'
    np.save(path, np.zeros(shape, np.uint8))
    path.write_bytes(harm(path.read_bytes()))
    try:
        array = load(path)[0]
    except ValueError as error:
        one_line(error, path)
        event('refused')
        return
    event('loaded')
    assert array.shape == (5, 7, 3) and array.dtype == np.uint8


@pytest.fixture(scope='module')
def checkpoints():
    """Content and file of a checkpoint, in torch's formats."""
    torch.manual_seed(0)
    content = dict(state_dict={f'layer{number}.weight': torch.randn(3, 5) for number in range(3)}, meta=dict(iter=3))
    files = {}
    for name, zipped in (('zip', True), ('legacy', False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=zipped)
        files[name] = stream.getvalue()
    return content, files


@cases(400)
@given(harm=damage(), container=st.sampled_from(['zip', 'zip', 'legacy']))
def test_damaged_checkpoints_are_refused_or_right(tmp_path_factory, checkpoints, harm, container):
    content, files = checkpoints
    path = tmp_path_factory.mktemp('checkpoints') / 'damaged.pth'
    path.write_bytes(harm(files[container]))
    try:
        loaded = load_checkpoint_file(path)
    except ValueError as error:
        one_line(error, path)
        event(f'{container} refused')
        return
    event(f'{container} loaded')
    assert isinstance(loaded, dict)
    if container == 'zip':  # the older format has no checksums
        assert loaded.keys() == content.keys() and loaded['meta'] == content['meta']
        for name, value in content['state_dict'].items():
            assert torch.equal(loaded['state_dict'][name], value)


@cases(150)
@given(harm=damage(), name=st.sampled_from(sorted(path.name for path in CONFIGS.glob('ifn*/*.py'))))
def test_damaged_configurations_are_read_or_named(tmp_path_factory, harm, name):
    source = next(CONFIGS.glob(f'ifn*/{name}'))
    folder = tmp_path_factory.mktemp('configs')
    (folder / '_base_').symlink_to(CONFIGS / '_base_')
    (folder / 'ifn').mkdir()
    for sibling in source.parent.glob('*.py'):
        (folder / 'ifn' / sibling.name).symlink_to(sibling)
    path = folder / 'ifn' / 'damaged.py'
    path.write_bytes(harm(source.read_bytes()))
    try:
        read_config(path)
    except ValueError as error:
        one_line(error, path)
        event('refused')
    else:
        event('read')


FOLDERS = ('A', 'B', 'label')
FILES = st.lists(st.sampled_from(['a', 'b b', '变化', 'sub/c', 'd.e']), max_size=4, unique=True)


@cases(80)
@given(listed=st.tuples(FILES, FILES, FILES), suffixes=st.tuples(*[st.sampled_from(['.png', '.PNG', '.bmp'])] * 3),
       extras=st.lists(st.sampled_from(['Thumbs.db', '.hidden.png', 'notes.txt', '.DS_Store', 'loop', 'broken.png']),
                       unique=True))
def test_complete_sets_are_packed_and_others_refused(tmp_path_factory, listed, suffixes, extras):
    root = tmp_path_factory.mktemp('data set 数据')
    for folder, names, suffix in zip(FOLDERS, listed, suffixes):
        (root / folder).mkdir()
        for name in names:
            path = root / folder / (name + suffix)
            path.parent.mkdir(exist_ok=True)
            Image.new('L', (4, 3)).save(path, 'PNG' if suffix != '.bmp' else 'BMP')
        for extra in extras:
            path = root / folder / extra
            if extra == 'loop':
                path.symlink_to(root / folder, target_is_directory=True)
            elif extra == 'broken.png':
                path.symlink_to(path)
            else:
                path.write_bytes(b'no image')
    complete = set(listed[0]) == set(listed[1]) == set(listed[2])
    if not complete or not listed[0]:
        with pytest.raises(FileNotFoundError) as error:
            LEVIRCDDataset(data_root=str(root))
        event('refused')
        message = one_line(error, root)
        everything = set().union(*listed)
        lacking = [name for names in listed for name in everything - set(names)]
        assert not all(listed) or any(name in message for name in lacking)
        return
    event('found')
    dataset = LEVIRCDDataset(data_root=str(root))
    assert len(dataset) == len(listed[0])
    assert pack(root, root.parent / f'{root.name} packed') == len(dataset)
    assert check(root.parent / f'{root.name} packed') == []
    packed = LEVIRCDDataset(
        data_root=str(root.parent / f'{root.name} packed'), img_suffix='.npy', seg_map_suffix='.npy')
    for index in range(len(dataset)):
        images = LoadPair().transform(packed.get_data_info(index))['img']
        assert [image.shape for image in images] == [(3, 4, 3)] * 2


def forged_png(width, height):
    """A PNG whose header claims a size, right checksums included."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(1000)))
            + chunk(b'IEND', b''))


@pytest.mark.parametrize('size', [(100_000, 100_000), (2**31 - 1, 1), (40_000, 40_000), (0, 5)])
def test_images_that_claim_a_huge_size_are_refused(tmp_path, size):
    (tmp_path / 'bomb.png').write_bytes(forged_png(*size))
    with pytest.raises(ValueError) as error:
        load(tmp_path / 'bomb.png')
    one_line(error, tmp_path / 'bomb.png')


@pytest.mark.parametrize('shape', [(1, 1), (1, 30_000), (30_000, 1), (3, 30_000)])
def test_extreme_sizes_are_read(tmp_path, shape):
    expected = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for suffix in ('.png', '.tif', '.bmp'):
        cv2.imwrite(str(tmp_path / f'image{suffix}'), expected)
        assert np.array_equal(load(tmp_path / f'image{suffix}')[0], expected)


def test_arrays_that_claim_a_huge_size_are_refused(tmp_path):
    for shape in ((10**12, ), (10**6, 10**6, 3), (2**62, 4), (-1, 5)):
        with (tmp_path / 'bomb.npy').open('wb') as file:
            np.lib.format.write_array_header_1_0(file, dict(descr='|u1', fortran_order=False, shape=shape))
            file.write(bytes(100))
        with pytest.raises(ValueError) as error:
            load(tmp_path / 'bomb.npy')
        one_line(error, tmp_path / 'bomb.npy')
