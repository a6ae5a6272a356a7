import os
import re
from pathlib import Path

import cv2
import layouts
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.registry import DefaultScope
from PIL import Image

from ifn_plugin.datasets import (
    BandDistortion,
    ConcatDates,
    EachDate,
    LoadChangeLabel,
    LoadPair,
    PairPhotoMetricDistortion,
    RandomExchangeDates,
    RandomRotateCropFlip,
)
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.registry import DATASETS, TRANSFORMS

CONFIGS = Path(__file__).parents[3] / 'configs' / 'ifn'
CONFIG = CONFIGS / 'ifn_mmseg_256x256_40k_levircd.py'
LABEL = np.arange(12 * 20).reshape(12, 20) % 3 == 0


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, image: np.ndarray, *options: int) -> str:
    assert cv2.imwrite(str(path), image, options)
    return str(path)


def load(*paths: str) -> list[np.ndarray]:
    return LoadPair()(dict(img_path=list(paths)))['img']


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / 'good.png', noise(12, 20, 3))


# LoadPair


def test_load_pair(tmp_path):
    date1, date2 = noise(12, 20, 3), noise(12, 20, 3, seed=1)
    paths = [write(tmp_path / 'a.png', date1), write(tmp_path / 'b.png', date2)]
    results = LoadPair()(dict(img_path=paths, seg_map_path='kept'))
    assert np.array_equal(results['img'][0], date1) and np.array_equal(results['img'][1], date2)
    assert all(image.dtype == np.uint8 and image.flags['C_CONTIGUOUS'] for image in results['img'])
    assert results['img_shape'] == results['ori_shape'] == (12, 20)
    assert results['img_path'] == paths and results['seg_map_path'] == 'kept'


@pytest.mark.parametrize('suffix', ['png', 'tif', 'bmp'])
def test_colours_are_in_bgr_order(tmp_path, suffix):
    path = tmp_path / f'orange.{suffix}'
    Image.new('RGB', (4, 3), (255, 128, 1)).save(path)
    assert (load(str(path), str(path))[0] == (1, 128, 255)).all()


def test_jpeg_is_decoded_close_to_its_colours(tmp_path):
    path = write(tmp_path / 'a.jpg', np.full((16, 16, 3), (200, 100, 50), np.uint8))
    image, _ = load(path, path)
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - (200, 100, 50)).max() < 6


@pytest.mark.parametrize('suffix', ['png', 'tif', 'jpg'])
def test_grey_image_gets_three_equal_channels(tmp_path, good, suffix):
    grey = noise(12, 20) // 64 * 64
    image = load(write(tmp_path / f'grey.{suffix}', grey), good)[0]
    assert image.shape == (12, 20, 3)
    assert (image == image[..., :1]).all()
    if suffix != 'jpg':
        assert np.array_equal(image[..., 0], grey)


def test_grey_image_with_opaque_alpha(tmp_path, good):
    grey = noise(12, 20)
    path = tmp_path / 'la.png'
    Image.merge('LA', (Image.fromarray(grey), Image.new('L', (20, 12), 255))).save(path)
    assert np.array_equal(load(good, str(path))[1], grey[..., None].repeat(3, axis=2))


def test_palette_image(tmp_path, good):
    path = tmp_path / 'palette.png'
    Image.new('RGB', (20, 12), (255, 128, 1)).convert('P', palette=Image.Palette.ADAPTIVE).save(path)
    assert (load(good, str(path))[1] == (1, 128, 255)).all()


def test_opaque_alpha_is_dropped(tmp_path, good):
    colour = noise(12, 20, 3)
    image = load(write(tmp_path / 'rgba.png', np.dstack((colour, np.full((12, 20), 255, np.uint8)))), good)[0]
    assert np.array_equal(image, colour)
    assert image.flags['C_CONTIGUOUS']


def test_transparency_is_refused(tmp_path, good):
    rgba = np.dstack((noise(12, 20, 3), np.full((12, 20), 255, np.uint8)))
    rgba[3, 4, 3] = 254
    with pytest.raises(ValueError, match=r'rgba\.png has transparent pixels.* Fix: save it without alpha'):
        load(good, write(tmp_path / 'rgba.png', rgba))


@pytest.mark.parametrize('shape', [(12, 20), (12, 20, 3)])
def test_16_bit_is_refused(tmp_path, good, shape):
    with pytest.raises(ValueError, match=r'deep\.png has uint16 values.* Fix: convert it'):
        load(good, write(tmp_path / 'deep.png', noise(*shape).astype(np.uint16) * 257))


def test_float_is_refused(tmp_path, good):
    with pytest.raises(ValueError, match=r'f\.tif has float32 values'):
        load(write(tmp_path / 'f.tif', noise(12, 20, 3).astype(np.float32)), good)


def test_different_sizes_are_refused(tmp_path, good):
    with pytest.raises(ValueError, match=r'good\.png is \(12, 20\), .*wide\.png is \(12, 21\)'):
        load(good, write(tmp_path / 'wide.png', noise(12, 21, 3)))


@pytest.mark.parametrize('loader', [LoadPair, LoadChangeLabel])
@pytest.mark.parametrize('content', ['half', 'almost all', 'text', 'nothing'])
def test_damaged_file_is_refused(tmp_path, good, loader, content):
    complete = Path(good).read_bytes()
    damaged = tmp_path / 'damaged.png'
    damaged.write_bytes({
        'half': complete[:len(complete) // 2],
        'almost all': complete[:-20],
        'text': b'<html>404: not found</html>',
        'nothing': b''
    }[content])
    fault = {'text': 'not a readable image', 'nothing': 'empty'}.get(content, 'damaged')
    message = rf'damaged\.png is {fault} \({damaged.stat().st_size} bytes.*\)\. Fix: replace it, or remove it'
    with pytest.raises(ValueError, match=message):
        loader()(dict(img_path=[good, str(damaged)], seg_map_path=str(damaged)))


def test_truncated_jpeg_is_refused(tmp_path, good):
    path = tmp_path / 'cut.jpg'
    content = cv2.imencode('.jpg', noise(64, 64, 3))[1].tobytes()
    path.write_bytes(content[:len(content) * 9 // 10])
    with pytest.raises(ValueError, match=r'cut\.jpg is damaged \(.*it has no end\)'):
        load(str(path), good)


@pytest.mark.parametrize('loader', [LoadPair, LoadChangeLabel])
def test_a_missing_file_is_named(tmp_path, good, loader):
    with pytest.raises(FileNotFoundError, match=r'gone\.png: no such file'):
        loader()(dict(img_path=[good, str(tmp_path / 'gone.png')], seg_map_path=str(tmp_path / 'gone.png')))


@register_backend('made_of_memory')
class MemoryBackend(BaseStorageBackend):
    """A store without a file system, such as a bucket."""

    files: dict[str, bytes] = {}

    def get(self, filepath):
        return self.files[filepath]

    def get_text(self, filepath, encoding='utf-8'):
        return self.files[filepath].decode(encoding)

    def exists(self, filepath):
        return filepath in self.files


def test_file_backend(monkeypatch):
    image, label = noise(12, 20, 3), (LABEL * 255).astype(np.uint8)
    files = {name: cv2.imencode('.png', array)[1].tobytes() for name, array in (('a', image), ('label', label))}
    monkeypatch.setattr(MemoryBackend, 'files', files)
    backend_args = dict(backend='made_of_memory')
    load_both = Compose([LoadPair(backend_args), LoadChangeLabel(backend_args=backend_args)])
    results = load_both(dict(img_path=['a', 'a'], seg_map_path='label'))
    assert np.array_equal(results['img'][1], image) and np.array_equal(results['gt_seg_map'], LABEL)
    with pytest.raises(FileNotFoundError, match='b: no such file'):
        load_both(dict(img_path=['a', 'b'], seg_map_path='label'))


@pytest.mark.parametrize('paths', ['one.png', Path('one.png'), ['one.png'], ['a.png', 'b.png', 'c.png']])
def test_other_than_two_files_are_refused(paths):
    with pytest.raises(ValueError, match=r'LoadPair needs the two files of a pair, .* got .*\.png.* Fix: use a data'):
        LoadPair()(dict(img_path=paths))


@pytest.mark.parametrize('transform', [
    EachDate([]), RandomExchangeDates(), ConcatDates(), BandDistortion(), PairPhotoMetricDistortion(),
    RandomRotateCropFlip((8, 8))])
def test_one_image_is_not_taken_for_a_pair(transform):
    results = dict(img=noise(12, 20, 3), gt_seg_map=noise(12, 20))
    message = rf'{type(transform).__name__} needs both dates, .* img is one ndarray \(12, 20, 3\)\. Fix: begin'
    with pytest.raises(ValueError, match=message):
        transform(results)


# LoadChangeLabel


def load_label(path: Path, label: np.ndarray, changed: int | None = None, **results) -> dict:
    return LoadChangeLabel(changed)(dict(seg_map_path=write(path / 'label.png', label), **results))


@pytest.mark.parametrize('value, changed', [(255, None), (1, None), (255, 255), (1, 1)])
def test_load_label(tmp_path, value, changed):
    results = load_label(tmp_path, (LABEL * value).astype(np.uint8), changed, ori_shape=(12, 20))
    assert np.array_equal(results['gt_seg_map'], LABEL)
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['seg_fields'] == ['gt_seg_map']


def test_label_field_is_added_to_others(tmp_path):
    results = load_label(tmp_path, np.zeros((4, 4), np.uint8), seg_fields=['other'])
    assert results['seg_fields'] == ['other', 'gt_seg_map']


@pytest.mark.parametrize('changed', [None, 1, 255])
@pytest.mark.parametrize('shape', [(12, 20), (12, 20, 3), (12, 20, 4)])
def test_label_without_change(tmp_path, changed, shape):
    image = np.zeros(shape, np.uint8)
    if shape[2:] == (4, ):
        image[..., 3] = 255
    label = load_label(tmp_path, image, changed)['gt_seg_map']
    assert label.shape == (12, 20) and not label.any()


def test_transparent_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'label\.png has transparent pixels, whose class is unknown'):
        load_label(tmp_path, np.zeros((4, 4, 4), np.uint8))


@pytest.mark.parametrize('changed', [None, 255])
def test_label_all_changed(tmp_path, changed):
    assert (load_label(tmp_path, np.full((4, 4), 255, np.uint8), changed)['gt_seg_map'] == 1).all()


def test_label_with_both_values_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'label\.png has both 1 and 255\. Fix: set changed=1'):
        load_label(tmp_path, np.array([[0, 1, 255]], np.uint8))


def test_label_of_1_ignores_255(tmp_path):
    label = np.array([[0, 1, 255]], np.uint8)
    assert load_label(tmp_path, label, changed=1)['gt_seg_map'].tolist() == [[0, 1, 255]]


def test_label_of_1_may_be_ignored_altogether(tmp_path):
    assert (load_label(tmp_path, np.full((4, 4), 255, np.uint8), changed=1)['gt_seg_map'] == 255).all()


def test_label_of_255_refuses_1(tmp_path):
    with pytest.raises(ValueError, match=r'label\.png has the values 1, but'):
        load_label(tmp_path, np.array([[0, 1, 255]], np.uint8), changed=255)


@pytest.mark.parametrize('value', [0, 2, 128, '255'])
def test_other_values_for_changed_are_refused(value):
    with pytest.raises(ValueError, match=re.escape(f'changed={value!r}')):
        LoadChangeLabel(value)


@pytest.mark.parametrize('changed', [None, 1, 255])
def test_odd_values_are_refused(tmp_path, changed):
    with pytest.raises(ValueError, match=r'label\.png has the values 2, 254, but .* \(PNG, not JPEG\)'):
        load_label(tmp_path, np.array([[0, 2, 254, 255]], np.uint8), changed)


def test_jpeg_label_is_refused(tmp_path):
    path = write(tmp_path / 'label.jpg', (LABEL * 255).astype(np.uint8), cv2.IMWRITE_JPEG_QUALITY, 90)
    with pytest.raises(ValueError, match=r'label\.jpg has the values .* and \d+ more, but .*Fix: threshold it'):
        LoadChangeLabel()(dict(seg_map_path=path))


def test_16_bit_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'label\.png has uint16 values'):
        load_label(tmp_path, LABEL.astype(np.uint16) * 65535)


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_a_label_of_another_type_with_values_of_8_bits(tmp_path, dtype):
    """As from a tool that gives labels the type of the images."""
    path = write(tmp_path / 'label.tif', LABEL.astype(dtype) * 255)
    assert np.array_equal(LoadChangeLabel()(dict(seg_map_path=path))['gt_seg_map'], LABEL)
    path = write(tmp_path / 'half.tif', LABEL.astype(np.float32) / 2)
    with pytest.raises(ValueError, match=r'half\.tif has float32 values, but'):
        LoadChangeLabel()(dict(seg_map_path=path))


@pytest.mark.parametrize('changed', [None, 1, 255])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_1_bit_label(tmp_path, changed, suffix):
    path = tmp_path / f'label{suffix}'
    Image.fromarray(LABEL).save(path)
    assert np.array_equal(LoadChangeLabel(changed)(dict(seg_map_path=str(path)))['gt_seg_map'], LABEL)


def test_a_pair_without_a_label_is_told_what_to_do():
    with pytest.raises(ValueError, match=r'LoadChangeLabel needs the file of a label.*use ifn_plugin\.ChangeDetector'):
        LoadChangeLabel()(dict(img_path=['a.png', 'b.png']))


def test_grey_label_saved_in_colour(tmp_path):
    label = (LABEL * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert np.array_equal(load_label(tmp_path, label)['gt_seg_map'], LABEL)


@pytest.mark.parametrize('channel', [0, 1, 2])
def test_colour_label_is_refused(tmp_path, channel):
    label = np.zeros((12, 20, 3), np.uint8)
    label[3, 4, channel] = 255
    with pytest.raises(ValueError, match=r'label\.png is a colour image'):
        load_label(tmp_path, label)


@pytest.mark.parametrize('ori_shape', [(12, 21), (20, 12)])
def test_label_of_another_size_is_refused(tmp_path, ori_shape):
    message = rf'label\.png is \(12, 20\) .*its pair one\.png is {re.escape(str(ori_shape))}'
    with pytest.raises(ValueError, match=message):
        load_label(tmp_path, LABEL.astype(np.uint8), ori_shape=ori_shape, img_path=['one.png', 'two.png'])


def test_paths_are_files_too(good, tmp_path):
    label = write(tmp_path / 'label.png', LABEL.astype(np.uint8))
    results = LoadChangeLabel()(LoadPair()(dict(img_path=[Path(good), Path(good)], seg_map_path=Path(label))))
    assert results['img_path'] == [good, good] and results['gt_seg_map'].shape == (12, 20)


# EachDate

FLIPS = [dict(type='RandomFlip', prob=0.5, direction=direction) for direction in ('horizontal', 'vertical')]
CROP = dict(type='RandomCrop', crop_size=(24, 32), cat_max_ratio=0.75)
ROTATE = dict(type='RandomRotate', prob=0.8, degree=180)
PHOTOMETRY = dict(type='PhotoMetricDistortion')


def pair_of(image: np.ndarray, label: np.ndarray | None = None, other: np.ndarray | None = None) -> dict:
    results = dict(img=[image.copy(), (image if other is None else other).copy()], seg_fields=[])
    results.update(img_shape=image.shape[:2], ori_shape=image.shape[:2])
    if label is not None:
        results.update(gt_seg_map=label.copy(), seg_fields=['gt_seg_map'])
    return results


def blobs(size: int = 48) -> np.ndarray:
    """Smooth random colours: interpolation changes them little."""
    return cv2.resize(noise(size // 8, size // 8, 3), (size, size), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('seed', range(8))
def test_flips_and_crops_are_shared_and_the_label_follows(seed):
    image = noise(40, 48, 3)
    label = (image[..., 0] > 127).astype(np.uint8)
    np.random.seed(seed)
    results = EachDate([CROP, *FLIPS])(pair_of(image, label))
    date1, date2 = results['img']
    assert date1.shape == (24, 32, 3) and results['img_shape'] == (24, 32)
    assert np.array_equal(date1, date2)
    assert np.array_equal(results['gt_seg_map'], date1[..., 0] > 127)


@pytest.mark.parametrize('seed', range(8))
def test_rotation_is_shared_too(seed):
    image = blobs()
    np.random.seed(seed)
    results = EachDate([ROTATE, CROP, *FLIPS])(pair_of(image, (image[..., 0] > 127).astype(np.uint8)))
    date1, date2 = results['img']
    assert np.array_equal(date1, date2)
    label = results['gt_seg_map']
    # away from the label's borders, where rounding and interpolation decide
    inside = cv2.erode((label == 1).astype(np.uint8), np.ones((5, 5))) > 0
    outside = cv2.erode((label == 0).astype(np.uint8), np.ones((5, 5))) > 0
    assert inside.any() and outside.any()
    assert (date1[inside][:, 0] > 100).all() and (date1[outside][:, 0] < 155).all()


def test_shared_geometry_varies_from_sample_to_sample():
    image = noise(40, 48, 3)
    transform = EachDate([ROTATE, CROP, *FLIPS])
    np.random.seed(0)
    outputs = {transform(pair_of(image, (image[..., 0] > 127).astype(np.uint8)))['img'][0].tobytes() for _ in range(8)}
    assert len(outputs) == 8


def test_rotation_fills_the_label_with_ignored_and_the_images_with_0():
    image = np.full((48, 48, 3), 200, np.uint8)
    transform = EachDate([dict(type='RandomRotate', prob=1., degree=(45, 45))])
    results = transform(pair_of(image, np.zeros((48, 48), np.uint8)))
    label = results['gt_seg_map']
    filled = cv2.erode((label == 255).astype(np.uint8), np.ones((3, 3)), borderValue=1) > 0
    kept = cv2.erode((label == 0).astype(np.uint8), np.ones((3, 3)), borderValue=1) > 0
    assert filled[0, 0] and filled[-1, -1] and kept[24, 24]
    assert set(np.unique(label)) == {0, 255}
    for date in results['img']:
        assert (date[filled] == 0).all() and (date[kept] == 200).all()


@pytest.mark.parametrize('seed', range(4))
def test_equals_the_transform_of_each_single_date(seed):
    dates = [blobs(), noise(48, 48, 3)]
    label = (noise(48, 48, seed=2) > 127).astype(np.uint8)
    np.random.seed(seed)
    results = EachDate([ROTATE, CROP, *FLIPS])(pair_of(dates[0], label, dates[1]))
    single = Compose([ROTATE, CROP, *FLIPS])
    for number, date in enumerate(dates):
        np.random.seed(seed)
        alone = single(dict(img=date.copy(), gt_seg_map=label.copy(), seg_fields=['gt_seg_map'], img_shape=(48, 48)))
        assert np.array_equal(results['img'][number], alone['img'])
        assert np.array_equal(results['gt_seg_map'], alone['gt_seg_map'])
        assert results['img_shape'] == alone['img_shape']


def test_works_without_label():
    image = noise(40, 48, 3)
    np.random.seed(0)
    results = EachDate([dict(type='RandomCrop', crop_size=(24, 32)), *FLIPS])(pair_of(image))
    assert results['img'][0].shape == (24, 32, 3)
    assert np.array_equal(*results['img'])
    assert 'gt_seg_map' not in results


def test_photometry_is_not_shared():
    image = blobs()
    label = (image[..., 0] > 127).astype(np.uint8)
    differ = 0
    for seed in range(10):
        np.random.seed(seed)
        results = EachDate([PHOTOMETRY], share_random_params=False)(pair_of(image, label))
        assert all(date.shape == image.shape and date.dtype == np.uint8 for date in results['img'])
        assert np.array_equal(results['gt_seg_map'], label)
        differ += not np.array_equal(*results['img'])
    assert differ > 5


def test_photometry_without_change_of_hue():
    grey = np.full((4, 4, 3), 100, np.uint8)  # which has no saturation to change
    transform = PairPhotoMetricDistortion(brightness_delta=0, contrast_range=(1, 1), hue_delta=0)
    for seed in range(10):
        np.random.seed(seed)
        assert np.array_equal(transform(pair_of(grey))['img'], [grey, grey])


@pytest.mark.parametrize('seed', range(3))
def test_sharing_holds_for_every_transform(seed):
    # PhotoMetricDistortion does not say which of its methods draw random numbers
    np.random.seed(seed)
    assert np.array_equal(*EachDate([PHOTOMETRY, *FLIPS])(pair_of(blobs()))['img'])


def test_random_state_moves_on_after_sharing():
    transform = EachDate([PHOTOMETRY, *FLIPS])
    np.random.seed(0)
    assert len({transform(pair_of(blobs()))['img'][0].tobytes() for _ in range(8)}) > 4


@TRANSFORMS.register_module(force=True)
class _RefuseDark:
    """A transform that asks for another sample."""

    def __call__(self, results):
        return results if results['img'].mean() > 1 else None


@pytest.mark.parametrize('share', [True, False])
def test_refused_sample_is_passed_on(share):
    transform = EachDate([dict(type='ifn_plugin._RefuseDark')], share_random_params=share)
    bright, dark = np.full((4, 4, 3), 9, np.uint8), np.zeros((4, 4, 3), np.uint8)
    assert all(np.array_equal(image, bright) for image in transform(pair_of(bright))['img'])
    assert transform(pair_of(bright, other=dark)) is None
    assert transform(pair_of(dark, other=bright)) is None


@pytest.mark.parametrize('transform', [
    dict(type='mmseg.Resize', scale=(64, 48)), dict(type='mmseg.RandomRotate', prob=1., degree=90)])
def test_a_single_channel_stays_a_channel(transform):
    image = np.random.default_rng(0).random((32, 32, 1)).astype(np.float32)
    results = ConcatDates()(EachDate([transform])(pair_of(image, np.zeros((32, 32), np.uint8))))
    assert results['img'].shape == (*results['gt_seg_map'].shape, 2)


def test_dates_do_not_change_each_others_label():
    """By a transform that writes into it, at another place for each date."""
    cut = dict(type='mmseg.RandomCutOut', prob=1., n_holes=1, cutout_shape=(4, 4), fill_in=(0, 0, 0), seg_fill_in=255)
    image, label = np.ones((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    for share in (True, False):
        results = EachDate([cut], share_random_params=share)(dict(
            img=[image.copy(), image.copy()], gt_seg_map=label.copy(), seg_fields=['gt_seg_map']))
        assert np.array_equal(results['gt_seg_map'] == 255, (results['img'][0] == 0).all(axis=2))


def test_a_label_that_is_loaded_for_each_date_is_listed_once(tmp_path):
    """By single-image transforms, as pipelines of mmseg begin; a second flip would turn the label back."""
    label = write(tmp_path / 'label.png', noise(8, 8) // 128)
    flip = EachDate([dict(type='RandomFlip', prob=1., direction='vertical')])
    results = EachDate([dict(type='LoadAnnotations')])(dict(pair_of(noise(8, 8, 3)), seg_map_path=label, seg_fields=[],
                                                            reduce_zero_label=False, label_map=None))
    assert results['seg_fields'] == ['gt_seg_map']
    before = results['gt_seg_map']
    assert np.array_equal(flip(results)['gt_seg_map'], before[::-1])


def test_the_files_of_a_pair_stay_usable_as_one_path(good):
    """By which mmseg's metrics name the maps that they write."""
    results = EachDate(FLIPS)(LoadPair()(dict(img_path=[good, good])))
    assert os.fspath(results['img_path']) == good


def test_repr_names_what_is_inside():
    text = repr(EachDate([CROP], share_random_params=False))
    assert 'RandomCrop' in text and 'share_random_params=False' in text


def test_dates_are_exchanged_as_often_as_asked():
    date1, date2 = noise(6, 5, 3), noise(6, 5, 3, seed=1)
    label = (date1[..., 0] > 127).astype(np.uint8)
    transform, exchanged = RandomExchangeDates(prob=0.25), 0
    np.random.seed(0)
    for _ in range(400):
        results = transform(pair_of(date1, label, date2))
        first, second = results['img']
        exchanged += np.array_equal(first, date2)
        assert {first.tobytes(), second.tobytes()} == {date1.tobytes(), date2.tobytes()}
        assert np.array_equal(results['gt_seg_map'], label)
    assert 70 < exchanged < 130


@pytest.mark.parametrize('prob', [-0.1, 1.5, float('nan')])
def test_exchange_needs_a_probability(prob):
    with pytest.raises(ValueError, match='probability'):
        RandomExchangeDates(prob)


# ConcatDates and complete pipelines


def test_concat_dates_puts_date_1_first():
    date1, date2 = noise(6, 5, 3), noise(6, 5, 3, seed=1)
    image = ConcatDates()(dict(img=[date1, date2]))['img']
    assert np.array_equal(image[..., :3], date1) and np.array_equal(image[..., 3:], date2)


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp('large')
    write_dataset(folder, dict(train=2, test=1), size=300)
    return folder


def dataset_of(root: Path, split: str, pipeline: list[dict]):
    prefix = dict(img_path_from=f'{split}/A', img_path_to=f'{split}/B', seg_map_path=f'{split}/label')
    return DATASETS.build(
        dict(type='ifn_plugin.LEVIRCDDataset', data_root=str(root), data_prefix=prefix, pipeline=pipeline))


def test_train_pipeline(large):
    dataset = dataset_of(large, 'train', Config.fromfile(CONFIG).train_pipeline)
    np.random.seed(0)
    seen, values = set(), set()
    for number in range(8):
        item = dataset[number % 2]
        inputs, label = item['inputs'], item['data_samples'].gt_sem_seg.data
        assert inputs.shape == (6, 256, 256) and inputs.dtype == torch.uint8
        assert label.shape == (1, 256, 256)
        assert item['data_samples'].img_shape == (256, 256) and item['data_samples'].ori_shape == (300, 300)
        seen.add(inputs.numpy().tobytes())
        values |= set(label.unique().tolist())
        # where the rotation leaves nothing, both dates are empty
        empty = cv2.erode((label[0] == 255).numpy().astype(np.uint8), np.ones((5, 5)), borderValue=1) > 0
        assert (inputs[:, torch.from_numpy(empty)] <= 10 * 1.2).all()
    assert len(seen) == 8
    assert values == {0, 1, 255}


def test_test_pipeline(large):
    dataset = dataset_of(large, 'test', Config.fromfile(CONFIG).test_pipeline)
    item = dataset[0]
    date1, date2, label = (cv2.imread(str(large / 'test' / folder / '0000.png')) for folder in ('A', 'B', 'label'))
    assert item['inputs'].shape == (6, 300, 300) and item['inputs'].dtype == torch.uint8
    assert np.array_equal(item['inputs'].numpy().transpose(1, 2, 0), np.dstack((date1, date2)))
    assert np.array_equal(item['data_samples'].gt_sem_seg.data[0].numpy(), label[..., 0] == 255)
    assert item['data_samples'].img_path == [str(large / 'test' / folder / '0000.png') for folder in ('A', 'B')]


def test_tta_pipeline(large):
    dataset = dataset_of(large, 'test', Config.fromfile(CONFIG).tta_pipeline)
    inputs, samples = dataset[0]['inputs'], dataset[0]['data_samples']
    assert len(inputs) == len(samples) == 3
    assert torch.equal(inputs[1], inputs[0].flip(-1)) and torch.equal(inputs[2], inputs[0].flip(-2))
    assert [(sample.flip, sample.flip_direction) for sample in samples] == [
        (False, None), (True, 'horizontal'), (True, 'vertical')]
    # the predictions are flipped back, so the label stays
    assert all(torch.equal(sample.gt_sem_seg.data, samples[0].gt_sem_seg.data) for sample in samples)


@pytest.mark.parametrize('config', [path for path in layouts.list_configs() if '4bands' not in path.name],
                         ids=lambda path: path.stem)
def test_pipelines_of_every_configuration_take_real_data(real_data, config):
    cfg = Config.fromfile(config, import_custom_modules=False)  # not everyone has mmpretrain
    steps = [step for block in cfg.train_pipeline for step in (block, *block.get('transforms', ()))]
    crop = next(step['crop_size'] for step in steps if 'crop_size' in step)
    train, test = dataset_of(real_data, 'train', cfg.train_pipeline), dataset_of(real_data, 'test', cfg.test_pipeline)
    size = cv2.imread(test.get_data_info(0)['img_path'][0]).shape[:2]
    assert tuple(test[0]['inputs'].shape) == (6, *size)
    # crops are never larger than the images
    inputs = train[0]['inputs']
    assert tuple(inputs.shape) == (6, *np.minimum(crop, cv2.imread(train.get_data_info(0)['img_path'][0]).shape[:2]))
    assert inputs.float().std() > 1


@pytest.mark.parametrize('threshold', [0, 127, 254])
def test_labels_saved_with_loss_have_a_threshold(tmp_path, threshold):
    label = np.zeros((32, 32), np.uint8)
    label[8:20, 10:30] = 255
    path = tmp_path / 'label.jpg'
    cv2.imwrite(str(path), label, [cv2.IMWRITE_JPEG_QUALITY, 60])
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    with pytest.raises(ValueError, match=r'label\.jpg has the values .*or set threshold=127'):
        LoadChangeLabel()(dict(seg_map_path=str(path)))
    found = LoadChangeLabel(threshold=threshold)(dict(seg_map_path=str(path)))['gt_seg_map']
    assert found.dtype == np.uint8 and np.array_equal(found, stored > threshold)
    assert threshold != 127 or np.array_equal(found, label == 255)


@pytest.mark.parametrize('options', [dict(threshold=255), dict(threshold=-1), dict(threshold=127, changed=255)])
def test_invalid_thresholds_are_refused(options):
    with pytest.raises(ValueError, match='set one of them only, threshold from 0 to 254'):
        LoadChangeLabel(**options)
