"""Against mmseg's transforms, one after the other, with the same random numbers."""

import mmap

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from ifn_plugin.datasets import EachDate, PairPhotoMetricDistortion, RandomRotateCropFlip
from ifn_plugin.datasets.drawn import draw_pair

PHOTOMETRY = dict(brightness_delta=10, contrast_range=(0.8, 1.2), saturation_range=(0.8, 1.2), hue_delta=10)


@pytest.fixture(scope='module')
def pair():
    date1, date2, label = draw_pair(np.random.default_rng(0), 160)
    return dict(img=[date1, date2[:, ::-1].copy()], gt_seg_map=(label > 0).astype(np.uint8))


def mmseg(transforms, shared=True):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return EachDate(transforms, shared)


def apply(transform, pair, seed):
    np.random.seed(seed)
    results = dict(img=[image.copy() for image in pair['img']], gt_seg_map=pair['gt_seg_map'].copy(),
                   seg_fields=['gt_seg_map'])
    results = transform(results)
    return *results['img'], results['gt_seg_map'], np.random.rand()


def geometry(prob, cat_max_ratio, crop_size=(64, 48), degree=180):
    return mmseg([
        dict(type='RandomRotate', prob=prob, degree=degree),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=cat_max_ratio),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='RandomFlip', prob=0.5, direction='vertical'),
    ]), RandomRotateCropFlip(crop_size, prob, degree, cat_max_ratio)


@pytest.mark.parametrize('cat_max_ratio', [1., 0.75, 0.1])
def test_without_rotation_samples_are_equal_to_the_bit(pair, cat_max_ratio):
    usual, composed = geometry(0., cat_max_ratio)
    for seed in range(20):
        for a, b in zip(apply(usual, pair, seed), apply(composed, pair, seed)):
            assert np.array_equal(a, b)


def test_all_maps_of_a_sample_stay_together(pair):
    """Those that ``seg_fields`` names, as open-cd's loaders of semantic change set it."""
    names = ['gt_seg_map', 'gt_seg_map_from', 'gt_seg_map_to']
    for seed in range(5):
        np.random.seed(seed)
        maps = {name: pair['gt_seg_map'] + number for number, name in enumerate(names)}
        results = RandomRotateCropFlip((64, 48), 0.5)(dict(img=pair['img'], seg_fields=names, **maps))
        label = results['gt_seg_map']
        for number, name in enumerate(names):
            assert np.array_equal(results[name], np.where(label == 255, 255, label + number))


@pytest.mark.parametrize('degree', [180, (-20, 45)])
def test_with_rotation_samples_are_equal_up_to_interpolation(pair, degree):
    usual, composed = geometry(1., 0.75, degree=degree)
    for seed in range(20):
        *theirs, their_label, their_next = apply(usual, pair, seed)
        *ours, label, our_next = apply(composed, pair, seed)
        assert their_next == our_next
        assert (label != their_label).mean() < 0.002
        assert (label == 255).any() == (their_label == 255).any()
        for a, b in zip(theirs, ours):
            difference = abs(a.astype(int) - b)
            # coordinates are rounded to 1/32 pixel: steep edges, and the border to the fill, may move that much
            assert difference.mean() < 0.25 and np.quantile(difference, 0.99) <= 6


def test_rotation_fills_images_with_0_and_label_with_255(pair):
    white = dict(img=[np.full((160, 160, 3), 200, np.uint8)] * 2, gt_seg_map=np.ones((160, 160), np.uint8))
    transform = RandomRotateCropFlip((160, 160), rotate_prob=1.)
    outside = 0
    for seed in range(10):
        date1, date2, label, _ = apply(transform, white, seed)
        assert set(np.unique(label)) <= {1, 255} and np.array_equal(date1, date2)
        # apart from a seam of half a pixel
        assert ((date1[..., 0] == 0) & (label == 1)).mean() < 0.01
        assert ((date1[..., 0] > 190) & (label == 255)).mean() < 0.01
        outside += (label == 255).mean()
    assert outside > 0.5


@pytest.mark.parametrize('channels', [1, 2, 5, 13])
def test_any_number_of_channels_is_turned_like_each_alone(channels):
    images = [np.random.default_rng(date).random((50, 60, channels), np.float32) for date in (0, 1)]
    label = np.zeros((50, 60), np.uint8)
    transform = RandomRotateCropFlip((40, 30), rotate_prob=1., pad_val=3)
    *dates, _, _ = apply(transform, dict(img=images, gt_seg_map=label), 0)
    for date, image in zip(dates, images):
        assert date.shape == (40, 30, channels) and date.max() == 3
        for channel in range(channels):
            alone = dict(img=[image[..., channel]] * 2, gt_seg_map=label)
            # OpenCV rounds coordinates to 1/32 pixel for some numbers of channels, not for all
            np.testing.assert_allclose(date[..., channel], apply(transform, alone, 0)[0], rtol=0, atol=0.1)


def test_only_the_needed_region_is_read(pair):
    class Watched(np.ndarray):
        """Remembers what was cut out of it."""
        read = 0

        def __getitem__(self, key):
            part = np.asarray(super().__getitem__(key))
            Watched.read = max(Watched.read, part.size)
            return part

    image = np.random.randint(0, 256, (1000, 1000, 3), np.uint8).view(Watched)
    label = np.zeros((1000, 1000), np.uint8)
    np.random.seed(0)
    RandomRotateCropFlip((64, 64), rotate_prob=1.)(dict(img=[image, image], gt_seg_map=label))
    assert 64 * 64 * 3 < Watched.read < 100 * 100 * 3


@pytest.mark.skipif(not hasattr(mmap.mmap, 'madvise'), reason='the system fetches mapped files as it likes')
@pytest.mark.parametrize('prob', [0., 1.])
def test_needed_rows_of_mapped_files_are_fetched_at_once(tmp_path, prob):
    asked = []

    class Watched(mmap.mmap):

        def madvise(self, option, start, length):
            asked.append((option, start, start + length))
            super().madvise(option, start, length)

    shapes = (1000, 1000, 3), (1000, 1000, 3), (1000, 1000)
    arrays = [np.random.default_rng(0).integers(0, 2, shape, np.uint8) for shape in shapes]
    mapped = []
    for number, array in enumerate(arrays):
        path = tmp_path / str(number)
        path.write_bytes(bytes(128) + array.tobytes())
        with path.open('rb') as file:
            content = Watched(file.fileno(), 0, access=mmap.ACCESS_COPY)
        mapped.append(np.ndarray(array.shape, np.uint8, content, 128))
    transform = RandomRotateCropFlip((64, 64), rotate_prob=prob)
    for seed in range(10):
        in_memory = apply(transform, dict(img=arrays[:2], gt_seg_map=arrays[2]), seed)
        assert not asked
        np.random.seed(seed)
        results = transform(dict(img=mapped[:2], gt_seg_map=mapped[2]))
        for a, b in zip(in_memory, (*results['img'], results['gt_seg_map'])):
            assert np.array_equal(a, b)
        (_, label_start, label_stop), *images = asked
        assert label_start == 0 and label_stop >= 128 + arrays[2].size
        for option, start, stop in images:
            assert option == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
            assert 64 * 3000 - 3000 < stop - start < 100 * 3000 + mmap.PAGESIZE
        assert len(images) == 2
        asked.clear()


def test_image_smaller_than_the_crop(pair):
    usual, composed = geometry(0., 1., (200, 100))
    for a, b in zip(apply(usual, pair, 3), apply(composed, pair, 3)):
        assert np.array_equal(a, b)
    assert apply(composed, pair, 3)[0].shape == (160, 100, 3)


def test_window_outside_of_the_turned_image(pair):
    """A long image turned by 90°: most windows are empty."""
    long = dict(img=[np.full((20, 400, 3), 7, np.uint8)] * 2, gt_seg_map=np.zeros((20, 400), np.uint8))
    usual, composed = geometry(1., 1., (20, 20))
    empty = 0
    for seed in range(30):
        theirs, ours = apply(usual, long, seed), apply(composed, long, seed)
        assert (ours[2] != theirs[2]).mean() < 0.02
        empty += (ours[2] == 255).all()
    assert empty > 0


def test_photometry_is_equal_to_the_bit(pair):
    usual = mmseg([dict(type='PhotoMetricDistortion', **PHOTOMETRY)], False)
    fast = PairPhotoMetricDistortion(**PHOTOMETRY)
    changed = 0
    for seed in range(60):
        theirs, ours = apply(usual, pair, seed), apply(fast, pair, seed)
        for a, b in zip(theirs, ours):
            assert np.array_equal(a, b)
        changed += not np.array_equal(ours[0], pair['img'][0])
    assert changed > 30


def test_a_square_crop_may_be_one_number():
    assert RandomRotateCropFlip(64).crop_size == (64, 64)


@pytest.mark.parametrize('arguments, message', [
    (dict(crop_size=[8]), r'crop_size=\[8\]\. Fix: two numbers of at least 1'),
    (dict(crop_size=(8, 8, 3)), 'crop_size=.*two numbers'), (dict(crop_size=(0, 8)), 'at least 1'),
    (dict(crop_size=8, flip_prob=0.5), r'flip_prob=0\.5\. Fix: two numbers from 0 to 1'),
    (dict(crop_size=8, flip_prob=(0.5, 2)), 'from 0 to 1'),
    (dict(crop_size=8, degree=(1, 2, 3)), 'degree=.*two numbers'),
])
def test_arguments_that_are_no_pairs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomRotateCropFlip(**arguments)


@pytest.mark.parametrize('image', [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8)])
def test_photometry_of_other_bands_is_refused(image):
    with pytest.raises(ValueError, match=r'got (float32|uint8) of \(8, 8, .\)\. Fix: .*BandDistortion'):
        PairPhotoMetricDistortion()(dict(img=[image, image]))
