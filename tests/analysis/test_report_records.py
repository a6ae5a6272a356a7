"""Which records a report shows, and what it says about them."""

import base64
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluations import write_evaluation
from PIL import Image

from ifn_plugin.analysis.report import read_run, write_report
from ifn_plugin.analysis.report.maps import read_maps
from ifn_plugin.evaluation.bootstrap import interval, resample_f1
from ifn_plugin.evaluation.kept_maps import MAPS, read_map, write_map
from ifn_plugin.evaluation.objects import ObjectCounts, count_objects
from ifn_plugin.visualization.embedded import PairPictures, embed_pairs
from ifn_plugin.visualization.pages import pack
from ifn_plugin.visualization.viewer import ViewedMap, ViewedModel, ViewedPair, viewer_content


@pytest.fixture
def data(levir_like):
    return levir_like / 'test'


def config(**changes):
    settings = dict(model=dict(type='EncoderDecoder'), optim_wrapper=dict(optimizer=dict(lr=0.1))) | changes
    return '\n'.join(f'{key} = {value!r}' for key, value in settings.items())


def test_each_tested_checkpoint_has_its_row(data, tmp_path):
    """A test of other weights, or in another way, replaces no row; a repeated test replaces its own."""
    run = tmp_path / 'run'
    write_evaluation(run / '1', data, str(run / 'iter_1.pth'))
    write_evaluation(run / '2', data, '/other/iter_1.pth', seed=1)
    write_evaluation(run / '3', data, str(run / 'iter_1.pth'), seed=2, tta=True, config=config(tta=1))
    write_evaluation(run / '4', data, str(run / 'iter_1.pth'), seed=3)
    assert [(one.name, one.folder.name) for one in read_run(run, 'run').evaluations] == [
        ('run, other/iter_1.pth', '2'), ('run, iter_1.pth, TTA', '3'), ('run, iter_1.pth', '4')]
    markdown = write_report([read_run(run, 'run')], tmp_path / 'page.html', 0)
    assert str(run / 'iter_1.pth') in markdown and '/other/iter_1.pth' in markdown and 'iter_1.pth, TTA' in markdown


def test_protocols_and_other_settings_tell_rows_apart(data, tmp_path):
    for folder, crop in (('1', 32), ('2', 64)):
        write_evaluation(tmp_path / folder, data, config=config(model=dict(test_cfg=dict(crop_size=crop))))
    names = [one.name for one in read_run(tmp_path, 'run').evaluations]
    assert names == ['run, 1', 'run, 2']


@pytest.mark.parametrize('text', ['custom_hooks = [dict(dtype={!r})]', 'test_evaluator = dict(ignore_index={!r})',
                                  'model = dict(unknown={})'])
def test_tests_with_other_hooks_or_metrics_replace_no_row(data, tmp_path, text):
    for folder, value in (('1', 'one'), ('2', 'other')):
        write_evaluation(tmp_path / folder, data, config=text.format(value))
    assert [one.name for one in read_run(tmp_path, 'run').evaluations] == ['run, 1', 'run, 2']


def test_settings_that_differ_are_listed(data, tmp_path):
    for name, lr in (('a', 0.1), ('b', 0.2)):
        write_evaluation(tmp_path / name / '1', data, seed=int(10 * lr), config=config(
            work_dir=name, optim_wrapper=dict(optimizer=dict(lr=lr))))
    write_report([read_run(tmp_path / name, name) for name in 'ab'], tmp_path / 'page.html', 0)
    page = (tmp_path / 'page.html').read_text()
    assert re.search('<td>optim_wrapper.optimizer.lr</td><td>0.1</td><td>0.2</td>', page)
    assert '1 settings in which' in page.replace('\n', ' ') and 'work_dir' not in page


def test_differences_in_pipelines_and_in_letters_case_are_listed(data, tmp_path):
    for name, crop in (('a', 128), ('b', 256)):
        steps = [dict(type='Load', text='x' * 150), dict(transforms=[dict(type='Crop', size=(crop, crop))])]
        write_evaluation(tmp_path / name / '1', data, seed=crop, config=config(
            train_dataloader=dict(pipeline=steps, data_root='levir' if name == 'a' else 'LEVIR')))
    write_report([read_run(tmp_path / name, name) for name in 'ab'], tmp_path / 'page.html', 0)
    page = (tmp_path / 'page.html').read_text()
    assert '<td>train_dataloader.pipeline.1.transforms.0.size</td><td>(128, 128)</td><td>(256, 256)</td>' in page
    assert '<td>train_dataloader.data_root</td><td>&#39;levir&#39;</td><td>&#39;LEVIR&#39;</td>' in page


def test_packages_that_a_record_names_need_not_be_there(data, tmp_path):
    write_evaluation(tmp_path / '1', data, config=config(custom_imports=dict(imports=['gone'])))
    evaluation, = read_run(tmp_path, 'run').evaluations
    assert evaluation.config.custom_imports.imports == ['gone']
    assert 'run' in write_report([read_run(tmp_path, 'run')], tmp_path / 'page.html', 0)


def test_maps_beyond_pillows_limit_are_read(tmp_path, monkeypatch):
    write_map(tmp_path / 'a.png', torch.zeros(8, 8), torch.ones(8, 8))
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 8)
    levels, label = read_map(tmp_path / 'a.png')
    assert levels.shape == (8, 8) and label.all()


def test_maps_that_are_not_those_of_the_record_are_left_out(data, tmp_path):
    write_evaluation(tmp_path / '1', data)
    first, second = sorted((tmp_path / '1' / MAPS).iterdir())
    with Image.open(first) as image:
        levels, label = image.split()
    Image.merge('LA', (levels.point(lambda level: 255 - level), label)).save(first)
    maps, note = read_maps(read_run(tmp_path, 'run').evaluations[0])
    assert maps[0] is None and maps[1] is not None and '1 maps in' in note and 'not those of the record' in note
    first.unlink()
    second.write_bytes(second.read_bytes()[:50])
    maps, note = read_maps(read_run(tmp_path, 'run').evaluations[0])
    assert maps == [None, None] and '2 of 2 maps are missing' in note


@pytest.mark.parametrize('change, reason', [
    (dict(maps=False), 'The test kept no maps. Fix: test again'),
    (dict(curve=False), 'The change maps do not follow from probabilities'),
])
def test_records_without_maps_say_so(data, tmp_path, change, reason):
    write_evaluation(tmp_path / '1', data)
    path = tmp_path / '1' / 'evaluation_test.json'
    content = json.loads(path.read_text())
    if 'curve' in change:
        del content['protocols']['']['curve']
    path.write_text(json.dumps(content | change))
    write_report([read_run(tmp_path, 'run')], tmp_path / 'page.html', 0)
    assert reason in (tmp_path / 'page.html').read_text()


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / '1').mkdir()
    (tmp_path / '1' / 'evaluation_test.json').write_text('{"protocols"')
    with pytest.raises(ValueError, match=r'1/evaluation_test.json: the record cannot be read'):
        read_run(tmp_path, 'run')


def test_the_verdict_ranks_evaluations_of_the_same_pairs(levir_like, tmp_path):
    for name, split, noise in (('good', 'test', 0.5), ('bad', 'test', 2.), ('elsewhere', 'val', 1.)):
        write_evaluation(tmp_path / name / '1', levir_like / split, noise=noise)
    runs = [read_run(tmp_path / name, name) for name in ('bad', 'good', 'elsewhere')]
    first, second, third, *_ = write_report(runs, tmp_path / 'page.html', 0).split('\n\n')
    f1 = {run.name: run.evaluations[0].record['metrics']['F1'] for run in runs}
    assert first.startswith(f'good has the highest F1, {f1["good"]:.1f} (95 % interval over 2 pairs: ')
    assert second.startswith(f'It is {f1["good"] - f1["bad"]:.2f} above bad (') and 'more than' in second
    assert third == 'Not ranked, since they are of other pairs or labels: elsewhere.'


def test_the_verdict_knows_other_labels_and_names_of_the_same_files(levir_like, tmp_path, monkeypatch):
    write_evaluation(tmp_path / 'a' / '1', levir_like / 'test')
    monkeypatch.chdir(levir_like)
    write_evaluation(tmp_path / 'b' / '1', Path('val', '..', 'test'), noise=2.)
    label = next((levir_like / 'test' / 'label').iterdir())
    former = label.read_bytes()
    try:
        cv2.imwrite(str(label), 255 - cv2.imread(str(label), cv2.IMREAD_GRAYSCALE))
        write_evaluation(tmp_path / 'c' / '1', levir_like / 'test')
    finally:
        label.write_bytes(former)
    monkeypatch.chdir(tmp_path)
    text = write_report([read_run(tmp_path / name, name) for name in 'abc'], tmp_path / 'page.html', 0)
    assert ' above b (' in text and 'Not ranked, since they are of other pairs or labels: c.' in text


def test_the_verdict_on_one_pair_claims_nothing(data, tmp_path):
    for name, noise in (('good', 0.5), ('bad', 2.)):
        write_evaluation(tmp_path / name / '1', data, noise=noise)
        path = tmp_path / name / '1' / 'evaluation_test.json'
        content = json.loads(path.read_text())
        del content['protocols']['']['pairs'][1:]
        path.write_text(json.dumps(content))
    first, second, *_ = write_report([read_run(tmp_path / name, name) for name in ('good', 'bad')],
                                     tmp_path / 'page.html', 0).split('\n\n')
    assert first.endswith('(one pair only).') and re.fullmatch(r'It is [\d.]+ above bad\.', second)


def test_the_interval_is_that_of_resampled_pairs():
    counts = np.array([[90, 10, 10], [10, 0, 0], [0, 50, 50]])
    samples = resample_f1([counts, counts], 4000)
    assert np.array_equal(samples[0], samples[1])  # the same pairs for all
    low, high = interval(samples[0])
    assert low < 200 * 100 / (200 + 60 + 60) < high and low >= 0 and high <= 100
    assert interval(resample_f1([np.repeat(counts[:1], 5, 0)])[0]) == (90, 90)


def test_objects_are_hit_missed_and_false():
    label, changed = np.zeros((20, 20), np.uint8), np.zeros((20, 20), bool)
    label[2:6, 2:6] = label[2:6, 10:14] = 1
    changed[2:4, 2:6] = True  # exactly half
    changed[2, 10:14] = True  # a quarter: missed, although what was found is right
    changed[10:12, 10:12] = True
    label[18:] = 255
    changed[18:] = True  # ignored
    assert count_objects(changed, label) == ObjectCounts(hit=1, missed=1, right=2, false=1)
    assert count_objects(changed & False, label * 0) == ObjectCounts()
    label[6, 6] = 1  # touches at a corner
    assert count_objects(changed, label).hit == 0


def test_pictures_fit_into_the_limit():
    """All are shrunk alike; where that is not enough, the last pairs stay without."""
    rng = np.random.default_rng(0)
    date = cv2.resize(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (1024, 1024))
    levels = cv2.resize(rng.integers(0, 255, (32, 32), dtype=np.uint8), (1024, 1024))
    pair = PairPictures([date, date], levels // 200, [levels, None])
    for limit, number in ((2_000_000, 4), (60_000, 1)):
        embedded = embed_pairs([lambda: pair] * 4, limit)
        assert len(str([list(pictures.values()) for pictures in embedded.pairs])) <= limit + 100
        assert sum(bool(pictures) for pictures in embedded.pairs) >= number
    assert embedded.side == 192 and embed_pairs([lambda: pair], 14_000_000).side == 1024
    assert embed_pairs([]).pairs == []


def test_pictures_leave_room_for_the_data(monkeypatch):
    rng = np.random.default_rng(0)
    pictures = PairPictures([rng.integers(0, 255, (64, 64, 3), np.uint8)] * 2, None, [None])
    histograms = rng.integers(0, 2**31, (40, 2, 256))
    pairs = [ViewedPair('a', [ViewedMap([0] * 4, histogram)], lambda: pictures) for histogram in histograms]
    monkeypatch.setattr('ifn_plugin.visualization.viewer.LIMIT', 200_000)
    content = viewer_content([ViewedModel('a', 127, 0.5)], pairs, [])
    taken = len(pack(content['data']))
    assert 100_000 < taken < 200_000 and 0 < sum(map(bool, content['pictures'])) < 40
    assert taken + len(json.dumps(content['pictures'])) < 201_000


def test_shrunk_maps_are_exact_at_the_threshold_of_the_model():
    levels = np.arange(256, dtype=np.uint8)[None].repeat(3, 0).repeat(8, 1)
    picture = embed_pairs([lambda: PairPictures(maps=[levels])], 1_000, [100]).pairs
    picture = picture[0]['maps'][0] if picture[0] else ''
    kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(',')[2]))))[..., 0]
    expected = np.asarray(Image.fromarray(levels).resize(kept.shape[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(kept > 100, expected > 100)
    assert (kept <= expected).all() and (expected - kept < 8).all() and len(np.unique(kept)) < 40


def test_configurations_that_cannot_be_read_and_several_heads(data, tmp_path):
    """mmengine writes an infinite number as inf, which it does not read."""
    write_evaluation(tmp_path / 'a' / '1', data, config=config(optim_wrapper=dict(clip_grad=float('inf'))))
    heads = [dict(type='FCNHead'), dict(type='ifn_plugin.IFNHead')]
    write_evaluation(tmp_path / 'b' / '1', data, config=config(model=dict(decode_head=heads)))
    runs = [read_run(tmp_path / name, name) for name in 'ab']
    assert runs[0].evaluations[0].config is None
    assert 'IFNHead' in write_report(runs, tmp_path / 'page.html', 0)
