import json
import logging
import pickle
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.config import Config, DictAction
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    jaccard_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from ifn_plugin.datasets import LEVIRCDDataset, LoadChangeLabel, LoadPair
from ifn_plugin.datasets.transforms.dates import PairPaths
from ifn_plugin.engine import EvaluationHook
from ifn_plugin.evaluation import THRESHOLDS, ChangeMetric
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
NAMES = ('Precision', 'Recall', 'F1', 'IoU', 'OA', 'Kappa')


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
    expected = {
        name: 100 * score(label, predicted, labels=[1], average='micro', zero_division=0.)
        for name, score in zip(NAMES, scores)
    }
    kappa = cohen_kappa_score(label, predicted)  # not a number where all is of one class
    return expected | dict(OA=100 * accuracy_score(label, predicted), Kappa=100 * np.nan_to_num(kappa))


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
    assert all(0 <= measured[name] <= 100 for name in NAMES[:5]) and -100 <= measured['Kappa'] <= 100
    assert measured['IoU'] <= measured['F1']


def test_pixels_of_all_samples_count_together():
    ones, zeros = np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    half = np.array([[1, 1], [0, 0]], np.uint8)
    # 4 true positives, 2 false positives, 2 false negatives: not the mean of the samples' own scores
    measured = measure([(ones, ones), (half, zeros), (zeros, half)])
    # of 12 pixels 8 are right; by chance 6 would be
    expected = dict(Precision=100 * 4 / 6, Recall=100 * 4 / 6, F1=100 * 8 / 12, IoU=50., OA=100 * 8 / 12, Kappa=100 / 3)
    assert measured == pytest.approx(expected)


def test_a_part_of_what_was_evaluated_has_no_scores_of_all(warnings_of_mmengine):
    """As mmdet's evaluator of several data sets asks for."""
    metric = ChangeMetric()
    for predicted, label in random_maps(0):
        found = sample(predicted, label)
        found.seg_logits = PixelData(data=torch.as_tensor(0.2 + 0.6 * predicted)[None])
        metric.process(None, [found.to_dict()])
    assert 'AP' not in metric.compute_metrics(metric.results[:1])
    assert any('are of a part of what was evaluated' in message for message in warnings_of_mmengine())
    assert 'AP' in metric.evaluate(3)


def test_small_dtypes_do_not_overflow():
    ones = np.ones((64, 64), np.uint8)
    # chance alone agrees where all is of one class
    assert measure([(ones, ones)] * 3) == dict.fromkeys(NAMES, 100.) | dict(Kappa=0.)


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
    right = 100. if found == value else 0.
    assert measure([(predicted, label)]) == dict.fromkeys(NAMES, 0.) | dict(OA=right)
    assert any('no label has a changed pixel' in message for message in warnings_of_mmengine())


def test_no_warning_where_something_changed(warnings_of_mmengine):
    # a map that misses everything is bad, not meaningless
    assert measure([(np.zeros((2, 2)), np.ones((2, 2), np.uint8))]) == dict.fromkeys(NAMES, 0.)
    assert not any('no label has a changed pixel' in message for message in warnings_of_mmengine())


def test_no_sample_at_all(warnings_of_mmengine):
    assert ChangeMetric().evaluate(0) == dict.fromkeys(NAMES, 0.)
    assert any('no label has a changed pixel' in message for message in warnings_of_mmengine())


def test_a_missing_label_is_named():
    bad = sample(np.zeros((4, 4)), np.zeros((4, 4), np.uint8), img_path=['a/1.png', 'b/1.png']).to_dict()
    del bad['gt_sem_seg']
    with pytest.raises(ValueError, match=r'b/1\.png.*no label.*predict'):
        ChangeMetric().process(None, [bad])


def test_scores_that_a_checkpoint_is_chosen_by_are_there_without_labelled_pixels():
    """A training that keeps the best checkpoint by F1@val does not end at its first validation."""
    pairs = [(np.full((4, 4), 0.7, np.float32), np.full((4, 4), 255, np.uint8))]
    measured, _ = measure_probabilities(pairs, choose_threshold=True)
    assert measured['F1@val'] == measured['AP'] == measured['F1@0.5'] == 0


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
def test_evaluator_of_a_runner_gives_the_scores(prefix):
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


def with_probabilities(probability: np.ndarray, label: np.ndarray, threshold: float = 0.5, **metainfo) -> dict:
    """A sample of a detector with one output channel."""
    made = sample(probability > np.float32(threshold), label, **metainfo)
    made.seg_logits = PixelData(data=torch.from_numpy(probability)[None])
    return made.to_dict()


def random_probabilities(seed: int, count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """As of a trained network, sure of most pixels; some equal hundredths exactly."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        label = (rng.random((40, 50)) < 0.2).astype(np.uint8)
        logits = rng.normal(8. * label - 5, 3).astype(np.float32)
        probability = (1 / (1 + np.exp(-logits))).astype(np.float32)
        probability[:5] = probability[:5].round(2)
        label[rng.random(label.shape) < 0.1] = 255
        pairs.append((probability, label))
    return pairs


def measure_probabilities(pairs: list[tuple[np.ndarray, np.ndarray]], **kwargs) -> tuple[dict, ChangeMetric]:
    metric = ChangeMetric(**kwargs)
    for pair in pairs:
        metric.process(None, [with_probabilities(*pair, threshold=0.3)])
    return metric.evaluate(len(pairs)), metric


@pytest.mark.parametrize('seed', range(5))
def test_any_threshold_equals_sklearn(seed):
    pairs = random_probabilities(seed)
    measured, metric = measure_probabilities(pairs, choose_threshold=True)

    def expected(threshold):
        return by_sklearn([(probability > np.float32(threshold), label) for probability, label in pairs])

    assert {name: measured[name] for name in NAMES} == pytest.approx(expected(0.3), abs=1e-9)
    assert {name: measured[f'{name}@0.5'] for name in NAMES} == pytest.approx(expected(0.5), abs=1e-9)
    best = measured['threshold@val']
    assert {name: measured[f'{name}@val'] for name in NAMES} == pytest.approx(expected(best), abs=1e-9)
    assert measured['F1@val'] >= max(expected(number / 100)['F1'] for number in range(1, 100)) - 1e-9
    probability = np.concatenate([probability[label != 255] for probability, label in pairs])
    label = np.concatenate([label[label != 255] for _, label in pairs])
    curve = metric.record['curve']
    for index in (0, 5, 300, 700, 1200, len(THRESHOLDS) - 1):
        found = probability > np.float32(curve['thresholds'][index])
        assert curve['tp'][index] == (found & (label == 1)).sum()
        assert curve['fp'][index] == (found & (label == 0)).sum()
        assert curve['fn'][index] == (~found & (label == 1)).sum()
        assert curve['tn'][index] == (~found & (label == 0)).sum()


@pytest.mark.parametrize('seed', range(5))
def test_average_precision_and_curve_equal_sklearn(seed):
    pairs = random_probabilities(seed)
    measured, metric = measure_probabilities(pairs)
    probability = np.concatenate([probability[label != 255] for probability, label in pairs])
    label = np.concatenate([label[label != 255] for _, label in pairs])
    # sklearn's has a step for each of the pixels, ours for each of the thresholds
    assert measured['AP'] == pytest.approx(100 * average_precision_score(label, probability), abs=0.05)
    precision, recall, _ = precision_recall_curve(label, probability)
    curve = metric.record['curve']
    tp, fp, fn = (np.array(curve[name]) for name in ('tp', 'fp', 'fn'))
    ours = np.interp(np.linspace(0.1, 0.9, 9), tp[::-1] / (tp + fn)[::-1], (tp / (tp + fp))[::-1])
    np.testing.assert_allclose(ours, np.interp(np.linspace(0.1, 0.9, 9), recall[::-1], precision[::-1]), atol=0.005)


def test_perfect_and_reversed_probabilities():
    label = (np.random.default_rng(0).random((40, 50)) < 0.2).astype(np.uint8)
    perfect = measure_probabilities([(np.where(label, 0.9, 0.1).astype(np.float32), label)], choose_threshold=True)[0]
    assert perfect['AP'] == pytest.approx(100) and perfect['F1@val'] == 100
    # the middle of all that are best
    assert perfect['threshold@val'] == pytest.approx(0.5, abs=0.011)
    reversed_ = measure_probabilities([(np.where(label, 0.1, 0.9).astype(np.float32), label)])[0]
    assert reversed_['AP'] == pytest.approx(100 * label.mean()) and reversed_['F1@0.5'] == 0


def test_threshold_is_found_where_no_probability_reaches_a_hundredth():
    """As of a network that has learnt for a few iterations from pairs that hardly change."""
    label = (np.random.default_rng(0).random((40, 50)) < 0.2).astype(np.uint8)
    probability = np.where(label, 5e-4, 5e-6).astype(np.float32)
    measured = measure_probabilities([(probability, label)], choose_threshold=True)[0]
    assert measured['F1@val'] == 100 and measured['AP'] == pytest.approx(100)
    assert measured['threshold@val'] == pytest.approx(5e-5, rel=0.05)


def test_two_classes_are_the_same_as_one_channel():
    pairs = random_probabilities(0)
    metric = ChangeMetric()
    for probability, label in pairs:
        inside = torch.from_numpy(probability).clamp(1e-6, 1 - 1e-6)
        logits = torch.stack((torch.zeros_like(inside), inside.logit()))
        made = sample(logits.argmax(0).numpy(), label)
        made.seg_logits = PixelData(data=logits)
        metric.process(None, [made.to_dict()])
    expected = measure_probabilities(pairs)[0]
    measured = metric.evaluate(len(pairs))
    # but for pixels whose probability rounds to the other side of a threshold
    assert {name: measured[name] for name in measured if name.endswith('@0.5')} == pytest.approx(
        {name: expected[name] for name in expected if name.endswith('@0.5')}, abs=0.1)
    assert measured['AP'] == pytest.approx(expected['AP'], abs=0.05)


def test_each_pair_is_recorded():
    pairs = random_probabilities(1)
    metric = ChangeMetric()
    for number, pair in enumerate(pairs):
        metric.process(None, [with_probabilities(*pair, img_path=[f'A/{number}.png', f'B/{number}.png'],
                                                seg_map_path=f'label/{number}.png')])
    metric.evaluate(len(pairs))
    for number, (record, (probability, label)) in enumerate(zip(metric.record['pairs'], pairs)):
        assert record['files'] == [str(Path.cwd() / kind / f'{number}.png') for kind in ('A', 'B', 'label')]
        expected = by_sklearn([(probability > 0.5, label)])
        assert {name: record[name] for name in NAMES} == pytest.approx(expected, abs=1e-9)
        assert sum(record['counts']) == (label != 255).sum()
    assert json.loads(json.dumps(metric.record)) == metric.record


def test_memory_does_not_grow_with_the_pixels():
    """Of all that a metric holds, whatever its name."""
    metric, sizes = ChangeMetric(), []
    for side in (16, 16, 256, 1024):
        probability = np.random.default_rng(0).random((side, side), np.float32)
        metric.process(None, [with_probabilities(probability, (probability > 0.4).astype(np.uint8))])
        sizes.append(len(pickle.dumps(metric)))
    assert sizes[0] < 100_000 and all(size < 200 for size in np.diff(sizes))


def test_real_maps_equal_sklearn(real_data):
    metric, dataset = ChangeMetric(), LEVIRCDDataset(data_root=str(real_data / 'test'))
    probabilities, labels = [], []
    for index in range(len(dataset)):
        pair = LoadChangeLabel()(LoadPair()(dataset.get_data_info(index)))
        difference = np.linalg.norm(np.subtract(*map(np.float32, pair['img'])), axis=2)
        probabilities.append(difference / np.float32(255 * 3**0.5))
        labels.append(pair['gt_seg_map'])
        metric.process(None, [with_probabilities(probabilities[-1], labels[-1], threshold=0.2)])
    measured = metric.evaluate(len(dataset))
    probability, label = np.concatenate([*map(np.ravel, probabilities)]), np.concatenate([*map(np.ravel, labels)])
    expected = by_sklearn([(probability > np.float32(0.2), label)])
    assert {name: measured[name] for name in NAMES} == pytest.approx(expected, abs=1e-9)
    # many of these probabilities lie between two thresholds
    assert measured['AP'] == pytest.approx(100 * average_precision_score(label, probability), abs=0.5)
    assert measured['F1'] > 0


def test_nan_probabilities_are_refused():
    probability = np.full((4, 4), 0.2, np.float32)
    probability[2, 1] = np.nan
    bad = with_probabilities(probability, np.zeros((4, 4), np.uint8), seg_map_path='here/label.png')
    with pytest.raises(ValueError, match=r'here/label\.png: the detector gives probabilities that are not finite'):
        ChangeMetric().process(None, [bad])


def test_threshold_of_the_validation_is_used_in_the_test():
    pairs = random_probabilities(2)
    assert 'F1@val' not in measure_probabilities(pairs)[0]
    metric = ChangeMetric()
    metric.chosen_threshold = 0.62
    for pair in pairs:
        metric.process(None, [with_probabilities(*pair)])
    measured = metric.evaluate(len(pairs))
    expected = by_sklearn([(probability > np.float32(0.62), label) for probability, label in pairs])
    assert measured['threshold@val'] == 0.62
    assert {name: measured[f'{name}@val'] for name in NAMES} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('way', ['val', 'test'])
def test_what_was_broken_off_does_not_count(way, tmp_path):
    """As in a notebook, where the same runner validates or tests again."""
    pairs, metric, fresh = random_probabilities(2), ChangeMetric(), ChangeMetric()
    metric.process(None, [with_probabilities(*pairs[0])])
    loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=[metric]), dataloader=SimpleNamespace(dataset=None))
    runner = SimpleNamespace(val_loop=loop, test_loop=loop, model=torch.nn.Linear(1, 1),
                             message_hub=MessageHub('broken'), log_dir=str(tmp_path))
    getattr(EvaluationHook(), 'before_val_epoch' if way == 'val' else 'before_test')(runner)
    for each in (metric, fresh):
        for pair in pairs:
            each.process(None, [with_probabilities(*pair)])
    assert metric.evaluate(len(pairs)) == fresh.evaluate(len(pairs)) and len(metric.record['pairs']) == len(pairs)


def test_two_tests_of_the_same_second_have_folders_of_their_own(options, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('time.strftime', lambda *_: 'then')
    for number in range(2):
        cfg = run_configuration(options)
        cfg.work_dir, cfg.load_from, cfg.experiment_name = str(tmp_path), str(checkpoint), f'{tmp_path.name}-{number}'
        cfg.default_hooks.evaluation.keep_maps = number == 0
        Runner.from_cfg(cfg).test()
    records = [json.loads((tmp_path / name / 'evaluation_test.json').read_text()) for name in ('then', 'then_1')]
    assert [record['maps'] for record in records] == [True, False]
    assert len(list((tmp_path / 'then' / 'maps').iterdir())) == 2 and not (tmp_path / 'then_1' / 'maps').exists()


def run_configuration(options):
    cfg = Config.fromfile(CONFIG)
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *options]).cfg_options)
    return cfg


@pytest.mark.slow
def test_figures_and_files_of_one_process(options, checkpoint, tmp_path, capsys):
    """Whatever is loaded, trained and tested in which order: each record says of which weights it is."""
    cfg = run_configuration(options)
    cfg.train_cfg.max_iters, cfg.work_dir, cfg.load_from = 2, str(tmp_path), str(checkpoint)
    cfg.test_evaluator = cfg.val_evaluator
    runner = Runner.from_cfg(cfg)

    def record(split):
        return json.loads(Path(runner.log_dir, f'evaluation_{split}.json').read_text())

    runner.val()  # alone: no training, of which it would be the best
    assert record('val')['checkpoint'] == str(checkpoint) and not list(tmp_path.glob('best_*'))
    runner.train()
    metrics = runner.test()
    chosen = runner.message_hub.get_info('change_threshold')
    assert metrics['threshold@val'] == chosen and 'F1@val' in metrics
    assert "a test takes validation's threshold" in capsys.readouterr().out
    assert record('val')['iteration'] == record('test')['iteration'] == 2 and 'checkpoint' not in record('test')
    # weights that no validation has chosen a threshold for
    runner.load_checkpoint(str(checkpoint))
    assert 'threshold@val' not in runner.test() and record('test')['checkpoint'] is None
    best, = tmp_path.glob('best_F1_iter_2.pth')
    runner.load_checkpoint(str(best))
    assert runner.test()['threshold@val'] == chosen
    assert record('test')['iteration'] == 2 and record('test')['checkpoint'] is None


@pytest.mark.parametrize('channels', [1, 2])
def test_probabilities_that_are_not_those_of_the_map_are_left_out(warnings_of_mmengine, channels):
    """mmseg's model for test-time augmentation merges the maps, and leaves the probabilities of one view."""
    pairs = random_probabilities(3)
    metric = ChangeMetric(choose_threshold=True)
    for number, (probability, label) in enumerate(pairs):
        made = with_probabilities(probability, label)
        if channels == 2:
            probability = torch.from_numpy(probability).clamp(1e-6, 1 - 1e-6)
            made['seg_logits']['data'] = torch.stack((torch.zeros_like(probability), probability.logit()))
        if number == 1:
            made['seg_logits']['data'] = made['seg_logits']['data'].flip(-1)
        metric.process(None, [made])
    measured = metric.evaluate(len(pairs))
    assert measured.keys() == set(NAMES)
    assert measured == pytest.approx(by_sklearn([(p > 0.5, label) for p, label in pairs]), abs=1e-9)
    assert any('does not follow from the probabilities' in message for message in warnings_of_mmengine())
    # the next evaluation starts anew
    metric.process(None, [with_probabilities(*pairs[0])])
    assert 'AP' in metric.evaluate(1)


@pytest.mark.parametrize('threshold', [0.5, None])
@pytest.mark.parametrize('changed', [True, False])
def test_maps_of_one_class_that_contradict_their_probabilities_are_found(warnings_of_mmengine, changed, threshold):
    """As mmseg's model for test-time augmentation gives for one channel, whose sigmoid it takes once more."""
    metric = ChangeMetric()
    metric.threshold = threshold
    for probability, label in random_probabilities(4):
        made = with_probabilities(probability, label)
        made['pred_sem_seg']['data'] = torch.full_like(made['pred_sem_seg']['data'], int(changed))
        metric.process(None, [made])
    assert metric.evaluate(3).keys() == set(NAMES)
    assert sum('does not follow from the probabilities' in message for message in warnings_of_mmengine()) == 1
    assert any("tta_model=dict(type='ifn_plugin.ChangeTTAModel')" in message for message in warnings_of_mmengine())


@pytest.mark.parametrize('lowest, logits', [(0.2, True), (0.002, True), (0.2, False)])
def test_maps_that_are_changed_everywhere_are_reported(warnings_of_mmengine, lowest, logits):
    """They fit any probabilities above the least plausible threshold, and metrics without EvaluationHook know none."""
    metric = ChangeMetric()
    for probability, label in random_probabilities(4):
        made = with_probabilities(probability.clip(lowest), label)
        made['pred_sem_seg']['data'] = torch.ones_like(made['pred_sem_seg']['data'])
        if not logits:
            del made['seg_logits']
        metric.process(None, [made])
    assert metric.evaluate(3)['Recall'] == 100
    message = warnings_of_mmengine()[-1]
    assert 'every pixel is called changed' in message and "tta_model=dict(type='ifn_plugin.ChangeTTAModel')" in message


def test_maps_that_are_rightly_changed_everywhere_are_not_reported(warnings_of_mmengine):
    metric = ChangeMetric()
    metric.process(None, [with_probabilities(np.full((4, 4), 0.9, np.float32), np.ones((4, 4), np.uint8))])
    assert metric.evaluate(1)['F1'] == 100
    assert not any('every pixel' in message for message in warnings_of_mmengine())


@pytest.mark.parametrize('threshold, fits', [(0.3, True), (0.4, False), (None, True)])
def test_maps_are_compared_with_the_threshold_that_is_known(threshold, fits):
    metric = ChangeMetric()
    metric.threshold = threshold
    pairs = random_probabilities(5)
    for pair in pairs:
        metric.process(None, [with_probabilities(*pair, threshold=0.3)])
    assert ('AP' in metric.evaluate(len(pairs))) == fits


def test_maps_of_two_thresholds_contradict_each_other():
    metric = ChangeMetric()
    for threshold, pair in zip((0.3, 0.6), random_probabilities(6)):
        metric.process(None, [with_probabilities(*pair, threshold=threshold)])
    assert 'AP' not in metric.evaluate(2)


@pytest.mark.parametrize('value', [0.2, 0.8])
def test_maps_of_one_class_that_follow_are_taken(value):
    probability, label = np.full((4, 4), value, np.float32), np.eye(4, dtype=np.uint8)
    for threshold in (0.5, None):
        metric = ChangeMetric()
        metric.threshold = threshold
        metric.process(None, [with_probabilities(probability, label)])
        assert 'AP' in metric.evaluate(1)


def test_probabilities_of_half_precision_are_compared_in_it():
    """As the detector compared them: 0.3 is another number there."""
    probability = torch.tensor([[0.3, 0.5]], dtype=torch.float16)
    made = sample((probability > 0.3).numpy(), np.array([[0, 1]], np.uint8))
    made.seg_logits = PixelData(data=probability[None])
    metric = ChangeMetric()
    metric.threshold = 0.3
    metric.process(None, [made.to_dict()])
    assert 'AP' in metric.evaluate(1)


@pytest.mark.slow
def test_stock_merging_is_found_out_in_a_run(options, checkpoint, tmp_path, capsys):
    """The runner's metrics know the detector's threshold; here mmseg's own model merges, as in other commands."""
    cfg = run_configuration(options)
    cfg.work_dir, cfg.load_from = str(tmp_path), str(checkpoint)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(type='mmseg.SegTTAModel', module=cfg.model)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    assert metrics.keys() == set(NAMES) and metrics['Recall'] == 100
    assert runner.test_loop.evaluator.metrics[0].threshold == 0.3
    assert 'does not follow from the probabilities' in capsys.readouterr().out


def test_several_metrics_are_recorded_by_their_prefixes(options, checkpoint, tmp_path):
    cfg = run_configuration(options)
    cfg.work_dir, cfg.load_from = str(tmp_path), str(checkpoint)
    cfg.test_evaluator = [dict(type='ifn_plugin.ChangeMetric', prefix=prefix) for prefix in ('one', 'other')]
    cfg.test_evaluator[1].ignore_index = 0
    cfg.test_cfg = dict(type='ifn_plugin.ProtocolsTestLoop', protocols=dict(whole=dict(mode='whole')))
    runner = Runner.from_cfg(cfg)
    # a loss may be the last of the outputs
    step, losses = runner.model.test_step, dict(loss_ce=torch.tensor(2.), other=torch.tensor(3.))
    runner.model.test_step = lambda batch: [*step(batch), BaseDataElement(loss=losses)]
    metrics = runner.test()
    assert [metrics[f'whole/{name}'] for name in ('loss_ce', 'other', 'test_loss')] == [2, 3, 2]
    records = json.loads(Path(runner.log_dir, 'evaluation_test.json').read_text())['protocols']
    assert records.keys() == {'whole/one', 'whole/other'}
    for name, record in records.items():
        assert record['metrics']['F1'] == metrics[f'{name}/F1']
    assert metrics['whole/one/F1'] != metrics['whole/other/F1']


@pytest.mark.parametrize('files, found', [
    (dict(img_path='A/1.png'), ['A/1.png', None]), (dict(img_path=Path('A/1.png')), ['A/1.png', None]),
    (dict(img_path=PairPaths(['A/1.png', 'B/1.png']), seg_map_path='label/1.png'),
     ['A/1.png', 'B/1.png', 'label/1.png']),
    (dict(img_path=[Path('A/1.png'), Path('B/1.png')], seg_map_path=Path('label/1.png')),
     ['A/1.png', 'B/1.png', 'label/1.png']),
    (dict(img_path=['s3://a/1.png']), ['s3://a/1.png', None]),
])
def test_files_are_recorded_as_absolute_paths(files, found):
    metric = ChangeMetric()
    metric.process(None, [with_probabilities(*random_probabilities(0)[0], **files)])
    metric.evaluate(1)
    found = [name if name is None or '://' in name else str(Path.cwd() / name) for name in found]
    assert json.loads(json.dumps(metric.record))['pairs'][0]['files'] == found
