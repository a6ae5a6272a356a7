import argparse
import json
import math
import re
import shutil
import xml.etree.ElementTree
from contextlib import suppress
from pathlib import Path

import mmseg.registry
import pytest
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner

from ifn_plugin.analysis.comparison import Comparison, RunError, combine
from ifn_plugin.analysis.comparison.cost import cost_report
from ifn_plugin.analysis.comparison.runs import prepare, read_progress, read_results, run
from ifn_plugin.analysis.comparison.settings import check_protocol
from ifn_plugin.analysis.comparison.tables import curves, score_tables, time_table
from ifn_plugin.evaluation import ChangeMetric

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / 'configs'
PROTOCOL = CONFIGS / 'comparison' / 'levircd_256x256_40k.py'
IFN = CONFIGS / 'ifn' / 'ifn_mmseg_256x256_40k_levircd.py'
UNET = CONFIGS / 'unet' / 'unet_256x256_40k_levircd.py'


@pytest.fixture(scope='module')
def compare(options):
    """A function that trains and tests models, by name, and gives the comparison."""
    settings = [*(option for option in options if not option.startswith('model.')),
                'test_cfg.protocols.tiles.crop_size=(32,32)', 'test_cfg.protocols.tiles.stride=(32,32)']

    def run(work_dir, seeds, max_iters=2, **configs):
        protocol = Config.fromfile(PROTOCOL)
        parser = argparse.ArgumentParser()
        parser.add_argument('--cfg-options', nargs='+', action=DictAction)
        protocol.merge_from_dict(parser.parse_args(['--cfg-options', *settings]).cfg_options)
        protocol.train_cfg.max_iters = max_iters
        models = {name.replace('_', '-'): Config.fromfile(config) for name, config in configs.items()}
        comparison = Comparison(protocol, models, seeds, work_dir, from_scratch=True)
        for key in comparison.folders:
            with suppress(RunError):
                comparison.run(*key)
        return comparison

    return run


@pytest.fixture(scope='module')
def compared(tmp_path_factory, compare):
    """Work dir and errors of a comparison of IFN, a U-Net and a configuration that cannot be built."""
    folder = tmp_path_factory.mktemp('comparison')
    (folder / 'broken.py').write_text(f'_base_ = [{str(UNET)!r}]\nmodel = dict(backbone=dict(in_chanels=3))\n')
    comparison = compare(folder / 'runs', [3], IFN=IFN, broken=folder / 'broken.py', U_Net=UNET)
    return folder, comparison.errors


def squeeze(text):
    """Markdown without the spaces that align its cells."""
    return re.sub(' +', ' ', text)


def test_a_table_for_each_protocol(compared):
    text = squeeze((compared[0] / 'runs' / 'comparison.md').read_text())
    for protocol in ('whole', 'tiles'):
        table = text.split(f'### Test, {protocol}')[1]
        for name in ('IFN', 'U-Net'):
            result = json.loads((compared[0] / 'runs' / name / 'seed3' / 'result.json').read_text())
            metrics = result['metrics'][protocol]
            assert re.search(rf'\| {name} \| 1 \| {metrics["F1@val"]:.2f} \| .* \| {metrics["AP"]:.2f} \|',
                             table.replace('**', ''))
            assert f'| {name} | {result["time"]:.3f} |' in text.split('### Time of training')[1].replace('**', '')
            assert result['iteration'] == 2 and result['validations'][-1]['F1@val'] > 0


def test_curves_of_validation(compared):
    for score in ('F1@val', 'AP'):
        picture = xml.etree.ElementTree.parse(compared[0] / 'runs' / f'comparison-{score}.svg').getroot()
        assert picture.tag == '{http://www.w3.org/2000/svg}svg'


def test_a_run_that_fails_is_said_and_stops_no_other(compared):
    assert compared[1].keys() == {'broken'} and len(compared[1]['broken']) == 1
    text = (compared[0] / 'runs' / 'comparison.md').read_text()
    assert re.search(r'broken failed: seed 3: exit code 1 after TypeError: .*in_chanels', text)


def test_finished_runs_are_kept_and_others_are_added(compared, compare):
    runs = compared[0] / 'runs'
    before = {path: path.stat().st_mtime_ns for path in runs.rglob('*.pth')}
    compare(runs, [3, 4], U_Net=UNET)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # with what another command has finished, unless that was under another protocol
    other = runs / 'other' / 'seed3'
    shutil.copytree(runs / 'IFN' / 'seed3', other)
    cfg = Config.fromfile(runs / 'IFN' / 'seed3.py')
    cfg.train_cfg.max_iters = 1
    cfg.dump(other.with_name('seed3.py'))
    text = compare(runs, [3], U_Net=UNET).write()
    assert re.search(r'\| U-Net \| 2 \| [\d.]+ ± [\d.]+ \|.*\n\| IFN \| 1 \|', squeeze(text).replace('**', ''))
    assert '| other ' not in text and (runs / 'comparison.md').read_text() == f'{text}\n'
    shutil.rmtree(other.parent)


def test_other_settings_need_another_folder(compared, compare):
    with pytest.raises(ValueError, match='holds a run with other settings'):
        compare(compared[0] / 'runs', [3], max_iters=3, U_Net=UNET)


def test_the_seeds_of_a_name_have_the_same_settings(tmp_path):
    """Whatever has changed since: the model, the protocol, or whether it begins from scratch."""
    settings = dict(model=dict(width=4, scale=math.inf), root='{{fileDirname}}', lr=math.nan)
    prepare(Config(settings | dict(randomness=dict(seed=0))), tmp_path / 'm' / 'seed0')
    for seed in (0, 1):
        prepare(Config(settings | dict(randomness=dict(seed=seed))), tmp_path / 'm' / f'seed{seed}')
    assert math.isinf(Config.fromfile(tmp_path / 'm' / 'seed1.py').model.scale)  # as the run's process reads it
    for seed in (0, 1):
        (tmp_path / 'm' / f'seed{seed}').mkdir()
        (tmp_path / 'm' / f'seed{seed}' / 'result.json').write_text(str(seed))
    assert read_results(tmp_path, tmp_path / 'm' / 'seed0') == dict(m=[0, 1])
    with pytest.raises(ValueError, match='seed0 holds a run with other settings'):
        prepare(Config(settings | dict(model=dict(width=8), randomness=dict(seed=2))), tmp_path / 'm' / 'seed2')
    assert not (tmp_path / 'm' / 'seed2.py').exists()
    prepare(Config(settings | dict(model=dict(width=8), randomness=dict(seed=2))), tmp_path / 'n' / 'seed2')


class Recorder(Hook):
    """What a training gets to see."""

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append([(sample.img_path, image.double().sum().item(), sample.gt_sem_seg.data.sum().item())
                             for image, sample in zip(data_batch['inputs'], data_batch['data_samples'])])


def test_all_models_see_the_same_samples(compared, tmp_path):
    """The same crops of the same pairs in the same order, though a U-Net draws other numbers than IFN."""
    seen = []
    for name, seed in (('IFN', 3), ('U-Net', 3), ('U-Net', 4)):
        cfg = Config.fromfile(compared[0] / 'runs' / name / 'seed3.py')
        cfg.randomness.seed, cfg.work_dir, cfg.experiment_name = seed, str(tmp_path), f'{name}{seed}'
        cfg.train_cfg.val_begin, cfg.default_hooks.checkpoint.interval = 100, -1
        runner, recorder = Runner.from_cfg(cfg), Recorder()
        runner.register_hook(recorder)
        runner.train()
        seen.append(recorder.batches)
    assert len(seen[0]) == 2 and seen[0] == seen[1] != seen[2]


def test_only_the_model_differs(compared):
    configs = [Config.fromfile(compared[0] / 'runs' / name / 'seed3.py') for name in ('IFN', 'U-Net')]
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'param_scheduler', 'optim_wrapper',
                'randomness', 'train_cfg', 'test_cfg', 'default_hooks'):
        assert configs[0][key] == configs[1][key], key
    assert configs[0].model != configs[1].model


def test_only_the_model_is_taken():
    protocol = Config(dict(randomness=dict(deterministic=True), custom_imports=dict(imports='a'), work=1,
                           test_cfg=dict(protocols=dict(tiles=dict(mode='slide'), whole=dict(mode='whole')))))
    model = dict(type='X', pretrained=True, test_cfg=dict(mode='slide', stride=1),
                 norm_cfg=dict(type='SyncBN', requires_grad=True), frozen=True, frozen_stages=2,
                 parts=[dict(pretrained='url', init_cfg=dict(type='Pretrained', checkpoint='url')),
                        dict(init_cfg=dict(type='Normal')),
                        dict(init_cfg=[dict(type='Normal'), dict(type='Pretrained', checkpoint='url')])])
    config = Config(dict(model=model, default_scope='opencd', work=2, custom_imports=dict(imports=['b', 'a'])))
    made = combine(protocol, config, 5, from_scratch=True)
    assert made.work == 1 and made.default_scope == 'opencd' and made.custom_imports.imports == ['a', 'b']
    assert made.randomness == dict(deterministic=True, seed=5)
    assert made.model.norm_cfg.type == 'BN' and made.model.pretrained is False
    assert made.model.frozen is False and made.model.frozen_stages == -1
    assert made.model.parts[0] == dict(pretrained=None, init_cfg=None)
    assert made.model.parts[1].init_cfg.type == 'Normal'
    assert made.model.parts[2].init_cfg == [dict(type='Normal')]
    # validation is the protocol's, whatever the order of its ways
    assert made.model.test_cfg == dict(mode='whole')
    kept = combine(protocol, config, 5)
    assert kept.model.frozen is True and kept.model.frozen_stages == 2
    assert kept.model.pretrained is True and kept.model.parts[0].pretrained == 'url'
    assert config.model.pretrained is True and config.model.norm_cfg.type == 'SyncBN'


@pytest.mark.parametrize('given, divisor', [(dict(), 1), (dict(size_divisor=None), 1), (dict(size_divisor=32), 32)])
def test_crops_are_padded_to_the_protocols_size(given, divisor):
    protocol = Config(dict(test_cfg=dict()))
    made = combine(protocol, Config(dict(model=dict(data_preprocessor=dict(size=(512, 512), **given)))), 0)
    assert made.model.data_preprocessor == dict(size=None, size_divisor=divisor)
    unpadded = Config(dict(model=dict(data_preprocessor=dict(size_divisor=16))))
    assert combine(protocol, unpadded, 0).model.data_preprocessor == dict(size_divisor=16)


def test_a_configuration_without_a_model():
    with pytest.raises(ValueError, match='has no model'):
        combine(Config(dict(test_cfg=dict())), Config(dict(work=1)), 0)


def test_two_at_work_in_one_folder(tmp_path):
    fcntl = pytest.importorskip('fcntl', reason='files are not locked on Windows')
    with (tmp_path / 'lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match='another process is using'):
            run(tmp_path)


def test_a_name_like_the_locks(tmp_path, monkeypatch):
    monkeypatch.setattr('ifn_plugin.analysis.comparison.comparison.run', lambda *_: {}['no run'])
    comparison = Comparison(Config.fromfile(PROTOCOL), dict(lock=Config.fromfile(UNET)), [0], tmp_path)
    with pytest.raises(RunError, match='no run'):
        comparison.run('lock', 0)
    assert "lock failed: seed 0: KeyError: 'no run'" in (tmp_path / 'comparison.md').read_text()


def test_spread():
    scores = {'F1@val': (80., 82.), 'AP': (90., 94.)}
    results = [dict(metrics={'': {name: values[seed] for name, values in scores.items()}}, time=0.5) for seed in (0, 1)]
    (row,), = (table.rows for table in score_tables(dict(model=results)))
    assert row[:3] == ['model', '2', '81.00 ± 1.41'] and row[-1] == '92.00 ± 2.83'


def test_a_score_that_some_seeds_lack():
    """As where a run was resumed from a checkpoint without the threshold."""
    runs = [dict(metrics={'': dict.fromkeys(('AP', 'F1@val')[:2 - seed // 2], 80.0 + seed)}, time=None)
            for seed in range(3)]
    (row,), = (table.rows for table in score_tables(dict(model=runs)))
    assert row[2] == '80.50 ± 0.71 (2 of 3)'


@pytest.mark.parametrize('lacking, message', [
    ('default_hooks.evaluation', r'keeps no record of tests: add .*ifn_plugin\.EvaluationHook'),
    ('test_evaluator', r'has no scores to compare: set .*ifn_plugin\.ChangeMetric'),
])
def test_what_a_protocol_lacks_is_said_before_the_training(tmp_path, lacking, message):
    protocol = Config.fromfile(PROTOCOL)
    protocol.merge_from_dict({lacking: None})
    with pytest.raises(ValueError, match=message):
        Comparison(protocol, dict(IFN=Config.fromfile(IFN)), [0], tmp_path / 'runs')
    assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('registry', [METRICS, mmseg.registry.METRICS])
def test_a_metric_of_ones_own_has_scores_to_compare(registry):
    protocol = Config.fromfile(PROTOCOL)
    protocol.test_evaluator = [dict(type='mmseg.IoUMetric'), dict(type='F2Score')]

    class F2Score(ChangeMetric):
        pass

    registry.register_module(module=F2Score, force=True)
    try:
        check_protocol(protocol)
    finally:
        registry.module_dict.pop('F2Score')


def test_cost_of_all_models_together(tmp_path, monkeypatch):
    """Those that another command has trained are measured again beside the new ones, and nothing twice."""
    calls = []

    def measure(entries, cases, variants):
        calls.append({entry.config for entry in entries})
        rows = [dict(config=entries[0].name, variant=variants[0], seconds=[0.2], peak_memory=2**30)]
        rows += [dict(config='b', variant=variants[0], error='CUDA out of memory')] if len(calls) == 4 else []
        counts = [dict(config=entry.name, parameters=10**6, trainable=10**6, macs=10**9) for entry in entries]
        yield dict(device='a machine', rounds=5, counts=counts, cases=[case._asdict() | dict(rows=rows)
                                                                       for case in cases])

    monkeypatch.setattr('ifn_plugin.analysis.comparison.cost.run_benchmark', measure)
    models = {name: Config(dict(model=dict(type=name))) for name in 'ab'}
    Comparison(Config.fromfile(PROTOCOL), models, [0], tmp_path)
    for name in 'ab':
        (tmp_path / name / 'seed0').mkdir(parents=True)
        (tmp_path / name / 'seed0' / 'result.json').write_text('{}')

    def run(name, size=64):
        comparison = Comparison(Config.fromfile(PROTOCOL), {name: models[name]}, [0], tmp_path)
        return len(list(comparison.measure_cost(size, 2)))

    assert run('b') == 1 and calls == [{tmp_path / name / 'seed0.py' for name in 'ab'}]
    assert run('a') == 0 and run('a', 128) == 1
    (tmp_path / 'cost.json').write_text((tmp_path / 'cost.json').read_text()[:-30])
    assert cost_report(tmp_path) == [] and run('a') == 1 and len(calls) == 3
    text = squeeze('\n\n'.join(table.markdown() for table in cost_report(tmp_path)))
    assert text.startswith('### a machine\n\n| configuration |') and '| b | 1.00 | 1.00 |' in text
    assert '### train, 64×64, batch 2\n' in text and '| a | float32 | 200 | 1.00 |' in text
    # what has failed is said, and measured again
    assert run('a', 256) == 1
    assert '| b | float32 | failed: CUDA out of memory |' in squeeze(cost_report(tmp_path)[-1].markdown())
    assert run('a', 256) == 1 and run('a', 256) == 0 and len(calls) == 5


def test_the_best_of_each_column_is_marked():
    results = {name: [dict(metrics={'': {'F1': f1, 'AP': ap}}, time=time) for f1, ap in scores]
               for name, time, scores in (('a', 0.5, [(80., 90.), (82., 91.)]), ('b', 0.4, [(81., 90.), (82., 80.)]))}
    table, = score_tables(results)
    columns = {table.header[column] for row, column in table.best if row == 1}
    assert columns == {'F1'} and {table.header[column] for row, column in table.best if row == 0} == {'AP'}
    assert '**81.50 ± 0.71**' in table.markdown() and time_table(results).best == {(1, 1)}
    alone, = score_tables(dict(a=results['a']))
    assert alone.best == time_table(dict(a=results['a'])).best == set()


def test_curves_are_of_mean_and_range():
    """Of the iterations that all seeds have validated; what a resumed run has validated twice counts once."""
    seeds = [[(1, 9.), (1, 10.), (2, 20.)], [(1, 30.), (2, 22.), (3, 50.)]]
    runs = [dict(validations=[dict(step=step, AP=value) for step, value in seed]) for seed in seeds]
    curve = curves(dict(none=[], model=runs), 'AP')
    assert curves(dict(model=runs), 'F1@val').lines == [] and curve.svg().startswith('<svg')
    (line,), (band,) = curve.lines, curve.bands
    assert (line['label'], line['x'], line['y']) == ('model', [1, 2], [20., 21.])
    assert (band['x'], band['low'], band['high']) == ([1, 2], [10., 20.], [30., 22.])
    assert curves(dict(model=runs[:1]), 'AP').bands == []  # a single seed has no range


@pytest.mark.parametrize('text, progress', [
    ('', ''),
    ('11/29 - mmengine - INFO - Iter(train) [  50/4000]  lr: 1e-4  eta: 1 day, 0:12:30  time: 1.2\n',
     'train: iteration 50 of 4000, 1 day, 0:12:30 left'),
    ('Iter(train) [  50/4000]  eta: 0:12:30  x\nIter(val) [ 3/64]  eta: 0:00:10  y\n',
     'val: iteration 3 of 64, 0:00:10 left'),
    ('Epoch(train)   [3][ 50/400]  lr: 1  eta: 0:12:30  x\nother', 'train: epoch 3, iteration 50 of 400, 0:12:30 left'),
    ('Iter(test) [16/16]    F1: 95.5\n', 'test: iteration 16 of 16'),
])
def test_progress_is_read_from_the_log(tmp_path, text, progress):
    (tmp_path / 'train.log').write_text('x' * 10000 + '\n' + text)
    assert read_progress(tmp_path / 'train.log') == progress


@pytest.mark.slow
def test_the_page_in_a_browser(compared, open_page):
    page = open_page(compared[0] / 'runs' / 'comparison.html')
    text = page.locator('body').inner_text()
    assert 'F1 is at the threshold that the model' in text and 'the shaded band reaches' in text
    assert text.count('Cost') == text.count('seconds an iteration') == 1
    assert page.locator('td.best').count() and page.locator('.chart canvas').count() == 2
