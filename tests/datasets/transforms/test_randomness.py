"""Random numbers of every origin: shared by the dates where they are to be, and following from the run's seed."""

import functools
import pickle
import random
import time

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import DefaultScope

from ifn_plugin.datasets import EachDate
from ifn_plugin.datasets.transforms.randomness import (
    find_generators,
    get_global_states,
    reseed_generators,
    set_global_states,
)
from ifn_plugin.registry import TRANSFORMS

OF_THE_MODULE = np.random.default_rng()
IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def closure(one, other):
    return lambda: one.random() if one.random() < 0.5 else other.random()


def uniform_of_opencv():
    return cv2.randu(np.zeros((1, 2), np.float32), np.array(0.), np.array(1.))[0].tolist()


# what a transform may keep, and how it draws from it
KEPT = {
    'Generator': (np.random.default_rng, lambda kept: kept.random()),
    'RandomState': (np.random.RandomState, lambda kept: kept.rand()),
    'Random': (random.Random, lambda kept: kept.random()),
    'torch.Generator': (torch.Generator, lambda kept: float(torch.rand(1, generator=kept))),
    'Philox': (lambda: np.random.Generator(np.random.Philox()), lambda kept: kept.random()),
    'dictionary': (lambda: dict(own=(1, random.Random())), lambda kept: kept['own'][1].random()),
    'bound method': (lambda: np.random.default_rng().random, lambda kept: kept()),
    'partial': (lambda: functools.partial(random.Random().uniform, 0, 1), lambda kept: kept()),
    'closure': (lambda: closure(random.Random(), np.random.default_rng()), lambda kept: kept()),
    'module': (lambda: None, lambda kept: OF_THE_MODULE.random()),
    'random': (lambda: None, lambda kept: random.random()),
    'numpy': (lambda: None, lambda kept: np.random.rand()),
    'torch': (lambda: None, lambda kept: float(torch.rand(1))),
    'OpenCV': (lambda: None, lambda kept: uniform_of_opencv()[0]),
}


@TRANSFORMS.register_module()
class _FlipByChance(BaseTransform):

    def __init__(self, kind):
        make, self.draw = KEPT[kind]
        self.kept = make()

    def transform(self, results):
        return dict(results, img=results['img'][:, ::-1]) if self.draw(self.kept) < 0.5 else results


def each_date(kind, **options):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return EachDate([dict(type='ifn_plugin._FlipByChance', kind=kind)], **options)


def flipped(transform):
    """Which dates of a sample were flipped."""
    return tuple(not np.array_equal(image, IMAGE) for image in transform(dict(img=[IMAGE, IMAGE]))['img'])


@pytest.mark.parametrize('kind', KEPT)
def test_dates_share_the_numbers_of_every_generator(kind):
    transform = each_date(kind)
    assert {flipped(transform) for _ in range(40)} == {(False, False), (True, True)}


@pytest.mark.parametrize('kind', KEPT)
def test_dates_do_not_share_them_where_they_should_not(kind):
    transform = each_date(kind, share_random_params=False)
    assert len({flipped(transform) for _ in range(100)}) == 4


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('kind', [kind for kind in KEPT if kind not in ('random', 'torch', 'OpenCV')])
def test_samples_follow_from_the_global_seed(kind, share):
    """As in a resumed run: another process has made the transform, and drawn other samples before."""
    first, second = each_date(kind, share_random_params=share), each_date(kind, share_random_params=share)
    for _ in range(7):
        second(dict(img=[IMAGE, IMAGE]))
    drawn = []
    for transform in (first, second):
        np.random.seed(5)
        drawn.append([flipped(transform) for _ in range(20)])
    assert drawn[0] == drawn[1]


def test_complete_pipelines_are_reseeded():
    class _Dataset:
        data_list = [dict(img_path='a', rng=random.Random())] * 3  # data are not looked through
        METAINFO = dict(classes=('unchanged', 'changed'))

        def __init__(self):
            step = dict(type='ifn_plugin._FlipByChance', kind='Random')
            self.pipeline = TRANSFORMS.build(dict(type='mmcv.RandomApply', prob=1., transforms=[step]))

    class _Repeated:
        def __init__(self, dataset):
            self.dataset = dataset

    with DefaultScope.overwrite_default_scope('mmcv'):
        repeated = _Repeated(_Dataset())
    (path, generator), = ((path, generator) for path, generator in find_generators(repeated).items()
                          if generator is not OF_THE_MODULE)
    assert path == 'dataset.pipeline.transforms.transforms[0].kept'
    np.random.seed(1)
    reseed_generators(repeated)
    state = generator.getstate()
    generator.random()
    np.random.seed(1)
    reseed_generators(repeated)
    assert generator.getstate() == state


class _Three:

    def __init__(self):
        self.one, self.two = np.random.default_rng(), random.Random()
        self.again, self.more = self.one, [np.random.RandomState()]


def test_the_same_generators_are_found_in_the_same_order_in_another_process():
    kept = _Three()
    for each in (kept, pickle.loads(pickle.dumps(kept))):
        assert [path for path, found in find_generators(each).items() if found is not OF_THE_MODULE] == [
            'one', 'two', 'more[0]']


def test_global_generators_are_not_found_as_a_transforms_own():
    class _Borrowed:
        python, numpy, torch = random.random, np.random.rand, torch.default_generator

        def __init__(self):
            self.module, self.draw = np.random, np.random.uniform

    assert [name for name, found in find_generators(_Borrowed()).items() if found is not OF_THE_MODULE] == []


def test_long_lists_of_data_are_not_searched():
    holder = _FlipByChance('OpenCV')
    holder.indices, holder.files = list(range(10**6)), [('a', 'b')] * 10**6
    holder.short, holder.long = [1, random.Random(0)], [random.Random(0)] * 101
    begin = time.perf_counter()
    found = find_generators(holder)
    assert time.perf_counter() - begin < 0.2
    assert {'short[1]', 'long[0]'} == {path.rpartition('.')[2] for path in found if '[' in path}


class _Strange:
    """Neither tells what it is nor gives anything, as proxies of lazy files."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


def test_files_and_indices_of_a_data_set_are_not_searched(tmp_path):
    np.savez(tmp_path / 'data.npz', x=np.ones(3))
    holder = _FlipByChance('OpenCV')
    holder.file, holder.strange = np.load(tmp_path / 'data.npz'), _Strange()
    holder.paths = {str(number): ('a', 'b') for number in range(10**6)}
    holder.samples = {number: dict(path='a') for number in range(10**6)}
    holder.few = dict(one=dict(own=random.Random(0)), two=random.Random(0))
    begin = time.perf_counter()
    found = find_generators(holder)
    assert time.perf_counter() - begin < 0.2
    assert {"few['one']['own']", "few['two']"} == {path for path in found if '[' in path}


class _Sample:

    def __init__(self, **own):
        vars(self).update(own)


def test_parts_of_a_data_set_are_searched_but_not_its_samples():
    holder = _Sample(parts=[_Sample(rng=random.Random(0)) for _ in range(150)])
    holder.pairs = [_Sample(data_set=holder) for _ in range(10**5)]
    begin = time.perf_counter()
    found = find_generators(holder)
    assert time.perf_counter() - begin < 0.5
    assert {f'parts[{number}].rng' for number in range(150)} == {path for path in found if '[' in path}


def test_nothing_is_drawn_without_own_generators():
    np.random.seed(3)
    expected = np.random.rand(4)
    np.random.seed(3)
    reseed_generators([np.flip, len, dict(type='a'), torch.nn.Dropout()])
    assert np.array_equal(np.random.rand(4), expected)


def test_a_generator_without_a_seed_is_refused():
    class _Unseedable:
        def __init__(self):
            self.rng = random.SystemRandom()

    with pytest.raises(ValueError, match=r'_Unseedable: rng is a SystemRandom.*Fix: use random\.Random'):
        reseed_generators(_Unseedable())


def test_going_back_to_global_states():
    def draw():
        return [random.random(), *np.random.rand(2), *torch.rand(2).tolist(), *uniform_of_opencv()]

    states = get_global_states()
    set_global_states(states)
    first = draw()
    assert draw() != first
    set_global_states(states)
    assert draw() == first


def test_albumentations():
    pytest.importorskip('albumentations')
    steps = [dict(type='HorizontalFlip', p=0.5), dict(type='RandomRotate90', p=1.)]
    with DefaultScope.overwrite_default_scope('mmseg'):
        transform, other = (EachDate([dict(type='Albu', transforms=steps)]) for _ in range(2))
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)

    def draw(transform):
        label = image[..., 0].copy()
        return transform(dict(img=[image.copy(), image.copy()], gt_seg_map=label, seg_fields=['gt_seg_map']))

    for _ in range(20):
        results = draw(transform)
        assert np.array_equal(*results['img']) and np.array_equal(results['img'][0][..., 0], results['gt_seg_map'])
    samples = []
    for each in (transform, other):
        random.seed(0)
        np.random.seed(0)
        samples.append([draw(each)['gt_seg_map'].tobytes() for _ in range(10)])
    assert samples[0] == samples[1] and len(set(samples[0])) > 3
