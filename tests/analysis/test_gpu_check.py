import json
import multiprocessing
import os
import re

import pytest
import torch

from ifn_plugin.analysis.benchmark import subject
from ifn_plugin.analysis.gpu_check import FULL, PARTS, SMALL, agreement, processes, run_check, runner
from ifn_plugin.analysis.gpu_check.device_tests import run_tests
from ifn_plugin.analysis.gpu_check.pipeline import workers_needed
from ifn_plugin.utils.configurations import find_config


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(python, tmp_path):
    output = python('-m', 'ifn_plugin.tools.gpu_check', '--minutes', '10', '--out', tmp_path / 'check.json')
    result = json.loads((tmp_path / 'check.json').read_text())
    assert [part['part'] for part in result['parts']] == list(PARTS)
    found = {part['part']: part['results'] for part in result['parts']}
    for name, results in found.items():
        assert results
        for single in results:
            assert f'{name}: {single["line"]}' in output and 'error' not in single
    if not torch.cuda.is_available():
        assert 'skipped' in found['tests'][0]['line'] and result['scale'] == json.loads(json.dumps(SMALL._asdict()))
    variants = result['scale']['variants']
    cases = [(single['case'], single['variant']) for single in found['agreement']]
    assert cases == [(case, variant) for case in ('official_dsifn', 'opencd_ifn') for variant in ('float32', *variants)]
    assert [single['case']['task'] for single in found['cost']] == ['train'] * len(variants) + ['inference'] * 2 * len(
        variants)
    assert all(len(single['seconds']) == len(single['plain_seconds']) > 0 for single in found['cost'])
    assert all(single['peak_memory'] > 0 < single['plain_peak_memory'] for single in found['cost'])
    assert [single['kind'] for single in found['pipeline']] == ['PNG', 'packed']
    assert all(0 <= single['waiting'] < 1 <= single['workers_needed'] for single in found['pipeline'])
    assert (tmp_path / 'check-loss.svg').read_text().startswith('<svg')
    assert [iteration for iteration, _ in found['training'][0]['loss']][-1] == result['scale']['iterations']


@pytest.fixture
def parts(monkeypatch):
    """Parts that fail, time out, and have results, and what the file holds when each begins."""
    seen = []

    def run_part(name, scale, out, seconds):
        seen.append((name, seconds, json.loads(out.read_text())['parts'] if out.exists() else []))
        if name == 'tests':
            yield dict(line='first')
            raise RuntimeError('CUDA error')
        if name == 'cost':
            raise TimeoutError('stopped')
        yield dict(line=f'all of {name}')

    monkeypatch.setattr(runner, 'run_part', run_part)
    return seen


def test_a_part_that_fails_leaves_the_others_alone_and_is_recorded(parts, tmp_path, capsys):
    out = tmp_path / 'folder' / 'check.json'
    assert not run_check(out, minutes=10)
    assert [name for name, *_ in parts] == list(PARTS)
    tests, agreed, cost, *_ = json.loads(out.read_text())['parts']
    assert (tests['results'], tests['error']) == ([dict(line='first')], 'CUDA error') and cost['error'] == 'stopped'
    assert 'error' not in agreed
    # each result is in the file by then
    assert [record['part'] for record in parts[3][2]] == list(PARTS)[:3] and parts[1][2] == [tests]
    printed = capsys.readouterr().out
    assert 'tests: first\ntests: FAILED: CUDA error\nagreement: all of agreement\ncost: FAILED: stopped' in printed
    # what a part has not taken is for those after it
    limits = [seconds for _, seconds, _ in parts]
    assert sum(limits) > 600 and limits[-1] == pytest.approx(600, abs=30)
    assert run_check(out, ['agreement', 'training'])


def test_parts_that_do_not_fit_are_left_out(parts, tmp_path, capsys):
    assert run_check(tmp_path / 'check.json', minutes=0.5)
    assert [name for name, *_ in parts] == ['training']
    output = capsys.readouterr().out
    assert 'tests: left out: needs 20 s, but its share of the remaining time is 3 s' in output
    left_out = [record['part'] for record in json.loads((tmp_path / 'check.json').read_text())['parts']
                if 'left_out' in record]
    assert left_out == list(PARTS)[:-1]


def test_a_part_ends_when_its_time_is_up(tmp_path):
    with pytest.raises(TimeoutError, match='share of the time, 0 s'):
        list(processes.run_part('training', SMALL, tmp_path / 'check.json', 0.3))
    assert not multiprocessing.active_children()


class Deadly:
    """An argument at which the process that receives it ends at once."""

    def __reduce__(self):
        return os._exit, (3, )


def test_a_part_whose_process_dies_is_reported_with_its_exit_code(tmp_path):
    with pytest.raises(RuntimeError, match='its process ended with exit code 3'):
        list(processes.run_part('training', Deadly(), tmp_path / 'check.json', 60))


def test_an_error_in_a_process_is_raised_with_its_reason(tmp_path):
    with pytest.raises(RuntimeError, match='no such part'):
        list(processes.run_part('no such part', SMALL, tmp_path / 'check.json', 60))


@pytest.mark.parametrize('check, passes', [('1 == 1', True), ('1 == 2', False)])
def test_only_tests_for_a_gpu_are_run(tmp_path, check, passes):
    folder = tmp_path / 'tests'
    folder.mkdir()
    source = f'import pytest\npytestmark = pytest.mark.cuda\ndef test():\n    assert {check}\n'
    (folder / 'test_a.py').write_text(source)
    (folder / 'test_b.py').write_text('import what_is_not_installed\n')
    (tmp_path / 'pytest.ini').write_text('[pytest]\nmarkers = cuda\n')
    results = run_tests(SMALL, tmp_path, tmp_path)
    assert f'1 {"passed" if passes else "failed"}' in next(results)['line']
    if passes:
        assert not list(results)
    else:
        with pytest.raises(RuntimeError, match='exit code 1: 1 failed'):
            next(results)


def test_missing_tests_or_pytest_are_reported(tmp_path, monkeypatch):
    single, = run_tests(SMALL, tmp_path, tmp_path)
    assert single['line'] == f'left out: no tests in {tmp_path}'
    monkeypatch.setattr('ifn_plugin.analysis.gpu_check.device_tests.find_spec', lambda name: None)
    single, = run_tests(SMALL, tmp_path)
    assert single['line'] == 'left out: pytest is not installed'


def test_differences_beyond_the_limits_and_errors_leave_other_variants_alone(tmp_path, monkeypatch, capsys):
    """Without golden cases, random weights are compared."""
    monkeypatch.setitem(agreement.LIMITS, 'float32', dict(logits=0, loss=1e-3, gradients=1e-2))
    scale = SMALL._replace(variants=('float64', 'bfloat16'))
    plain, unknown, half = agreement.check_agreement(scale, tmp_path, tmp_path / 'none')
    assert plain['line'].startswith(f'random weights, {agreement.get_device()}, float32, largest differences: logits')
    assert 0 < plain['differences']['logits'] < 1e-3 and plain['differences']['gradients'] < 1e-2
    assert re.search('; FAILED: logits differ by .*, more than 0$', plain['line']) and 'more than 0' in plain['error']
    assert "float64: FAILED: dtype='float64': use one of" in unknown['line'] and unknown['error'] in unknown['line']
    assert 'error' not in half
    monkeypatch.setattr(runner, 'run_part', lambda *_: [plain, unknown, half])
    assert not run_check(tmp_path / 'check.json', ['agreement'])
    assert 'FAILED: logits' in capsys.readouterr().out


@pytest.mark.parametrize('step, sample, batch, workers', [
    (0.01, 0.003057, 8, 3), (0.01, 0.0683, 8, 55), (0.02, 0.01, 2, 1), (1, 0.001, 1, 1)])
def test_needed_workers_are_rounded_up(step, sample, batch, workers):
    assert workers_needed(step, sample, batch) == workers


@pytest.mark.parametrize('variant, expected', [
    ('float32+tf32+cuda_graphs', dict(compile=dict(mode='reduce-overhead'), tf32=True)),
    ('float32+compile+fused+pin_memory', dict(compile=True, tf32=False)),
    ('float32', dict(compile=False, tf32=False))])
def test_variants_enable_exactly_the_switches_they_name(monkeypatch, variant, expected):
    given = []
    monkeypatch.setattr(subject, 'accelerate', lambda model, **settings: given.append(settings) or torch.float32)
    subject.Subject(find_config('ifn_mmseg_256x256_40k_levircd.py'), variant, None).build_model()
    assert {name: given[0][name] for name in expected} == expected


def test_the_full_check_has_the_recipes_sizes_and_all_switches():
    assert (FULL.train, FULL.inference, FULL.batch, FULL.workers) == ((256, 8), ((1024, 1), (256, 64)), 8, None)
    named = {switch for variant in FULL.variants for switch in variant.split('+')[1:]}
    assert named == set(subject.SWITCHES) - {'keep_memory'}  # which is for CPUs
