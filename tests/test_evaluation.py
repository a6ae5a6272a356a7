import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from ifn_plugin.evaluation import ChangeMetric

NAMES = ('Precision', 'Recall', 'F1', 'IoU')


def sample(predicted: np.ndarray, label: np.ndarray, **metainfo) -> SegDataSample:
    """A sample as a detector gives it: an int64 change map, a label that may be uint8."""
    return SegDataSample(
        pred_sem_seg=PixelData(data=torch.as_tensor(predicted)[None].long()),
        gt_sem_seg=PixelData(data=torch.as_tensor(label)[None]),
        metainfo=metainfo)


def measure(pairs: list[tuple[np.ndarray, np.ndarray]], **kwargs) -> dict[str, float]:
    metric = ChangeMetric(**kwargs)
    for predicted, label in pairs:
        metric.process(None, [sample(predicted, label).to_dict()])
    return metric.evaluate(len(pairs))


def by_sklearn(pairs: list[tuple[np.ndarray, np.ndarray]], ignore_index: int = 255) -> dict[str, float]:
    predicted = np.concatenate([predicted[label != ignore_index] for predicted, label in pairs])
    label = np.concatenate([label[label != ignore_index] for _, label in pairs])
    if not len(label):
        return dict.fromkeys(NAMES, 0.)
    scores = precision_score, recall_score, f1_score, jaccard_score
    # positive is 1, also where it occurs in neither
    return {
        name: 100 * score(label, predicted, labels=[1], average='micro', zero_division=0.)
        for name, score in zip(NAMES, scores)
    }


def random_maps(seed: int, count: int = 3, ignored: float = 0.2) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        label = (rng.random((9, 13)) < 0.3).astype(np.uint8)
        predicted = np.where(rng.random(label.shape) < 0.25, 1 - label, label)
        label[rng.random(label.shape) < ignored] = 255
        pairs.append((predicted, label))
    return pairs


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('ignored', [0., 0.2, 0.95])
def test_equals_sklearn(seed, ignored):
    pairs = random_maps(seed, ignored=ignored)
    assert measure(pairs) == pytest.approx(by_sklearn(pairs), abs=1e-9)


maps = st.integers(1, 6).flatmap(lambda side: st.tuples(
    arrays(np.uint8, (side, 7), elements=st.sampled_from([0, 1])),
    arrays(np.uint8, (side, 7), elements=st.sampled_from([0, 1, 255]))))


@settings(max_examples=60, deadline=None)
@given(st.lists(maps, min_size=1, max_size=3))
def test_any_maps_equal_sklearn(pairs):
    measured = measure(pairs)
    assert measured == pytest.approx(by_sklearn(pairs), abs=1e-9)
    assert all(0 <= value <= 100 for value in measured.values())
    assert measured['IoU'] <= measured['F1']


def test_pixels_of_all_samples_count_together():
    ones, zeros = np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    half = np.array([[1, 1], [0, 0]], np.uint8)
    # 4 hits; 2 false alarms; 2 misses: not the mean of the samples' own scores
    measured = measure([(ones, ones), (half, zeros), (zeros, half)])
    expected = dict(Precision=100 * 4 / 6, Recall=100 * 4 / 6, F1=100 * 8 / 12, IoU=50.)
    assert measured == pytest.approx(expected)


def test_dtypes_do_not_overflow():
    ones = np.ones((64, 64), np.uint8)
    assert measure([(ones, ones)] * 3) == dict.fromkeys(NAMES, 100.)


def test_ignored_pixels_do_not_count():
    predicted = np.array([[1, 1, 0, 0]], np.uint8)
    label = np.array([[1, 255, 255, 0]], np.uint8)
    assert measure([(predicted, label)]) == dict.fromkeys(NAMES, 100.)


def test_ignore_index():
    predicted, label = np.array([[1, 1, 0]], np.uint8), np.array([[1, 7, 0]], np.uint8)
    assert measure([(predicted, label)], ignore_index=7) == dict.fromkeys(NAMES, 100.)
    with pytest.raises(ValueError, match='other than 0, 1 and 7'):
        measure([(predicted, np.array([[1, 255, 0]], np.uint8))], ignore_index=7)


@pytest.fixture
def warnings_of_mmengine(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize('found', [0, 1])
@pytest.mark.parametrize('value', [0, 255])
def test_labels_without_change_give_0_and_a_warning(warnings_of_mmengine, found, value):
    predicted, label = np.full((4, 4), found), np.full((4, 4), value, np.uint8)
    assert measure([(predicted, label)]) == dict.fromkeys(NAMES, 0.)
    assert any('no label has a changed pixel' in message for message in warnings_of_mmengine())


def test_no_warning_where_something_changed(warnings_of_mmengine):
    # a map that misses everything is bad, not meaningless
    assert measure([(np.zeros((2, 2)), np.ones((2, 2), np.uint8))]) == dict.fromkeys(NAMES, 0.)
    assert not any('no label has a changed pixel' in message for message in warnings_of_mmengine())


def test_no_sample_at_all(warnings_of_mmengine):
    assert ChangeMetric().evaluate(0) == dict.fromkeys(NAMES, 0.)
    assert any('no label has a changed pixel' in message for message in warnings_of_mmengine())


@pytest.mark.parametrize('shape', [(4, 5), (5, 4), (8, 8), (1, 4)])
def test_label_of_another_size_is_refused(shape):
    bad = sample(np.zeros((4, 4)), np.zeros(shape, np.uint8), seg_map_path='here/label.png')
    with pytest.raises(ValueError, match=rf'here/label\.png: the label is \({shape[0]}, {shape[1]}\), .* \(4, 4\)'):
        ChangeMetric().process(None, [bad.to_dict()])


@pytest.mark.parametrize('value', [2, 128, 254])
def test_other_values_are_refused(value):
    label = np.zeros((4, 4), np.uint8)
    label[1, 2] = value
    bad = sample(np.zeros((4, 4)), label, seg_map_path='here/label.png')
    with pytest.raises(ValueError, match=r'here/label\.png: the label has values other than 0, 1 and 255'):
        ChangeMetric().process(None, [bad.to_dict()])


@pytest.mark.parametrize('prefix', [None, 'levir'])
def test_evaluator(prefix):
    pairs = random_maps(0)
    evaluator = Evaluator(dict(type='ifn_plugin.ChangeMetric', prefix=prefix))
    evaluator.dataset_meta = dict(classes=('unchanged', 'changed'))
    evaluator.process([sample(*pair) for pair in pairs[:2]])
    evaluator.process([sample(*pair) for pair in pairs[2:]])
    expected = by_sklearn(pairs)
    if prefix:
        expected = {f'{prefix}/{name}': value for name, value in expected.items()}
    assert evaluator.evaluate(len(pairs)) == pytest.approx(expected, abs=1e-9)


def test_second_evaluation_starts_anew():
    evaluator = Evaluator(dict(type='ifn_plugin.ChangeMetric'))
    for seed in (0, 1):
        pairs = random_maps(seed)
        evaluator.process([sample(*pair) for pair in pairs])
        assert evaluator.evaluate(len(pairs)) == pytest.approx(by_sklearn(pairs), abs=1e-9)


@pytest.mark.parametrize('seed', range(3))
def test_equals_mmseg_for_the_class_changed(seed):
    pairs = random_maps(seed, count=4)
    areas = [
        IoUMetric.intersect_and_union(torch.as_tensor(predicted), torch.as_tensor(label), 2, 255)
        for predicted, label in pairs
    ]
    totals = [sum(column) for column in zip(*areas)]
    theirs = IoUMetric.total_area_to_metrics(*totals, ['mIoU', 'mFscore'])
    measured = measure(pairs)
    for name, key in zip(NAMES, ('Precision', 'Recall', 'Fscore', 'IoU')):
        # mmseg rounds to two decimals
        assert measured[name] == pytest.approx(np.round(100 * theirs[key][1], 2), abs=0.0051), name
