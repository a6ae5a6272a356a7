import json
import re

import pytest

from ifn_plugin.analysis.benchmark import ONNX, Case, Entry, Subject, read_result, report, run_benchmark, write_result
from ifn_plugin.utils.configurations import find_config

pytestmark = pytest.mark.slow

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.fixture(scope='module')
def benchmark(tmp_path_factory, levir_like):
    """A function that measures configurations by name, and gives what it writes as Markdown and as JSON."""
    folder = tmp_path_factory.mktemp('benchmark')
    for name, part in (('a', ''), ('b', 'decode_head=dict(with_cp=True)'), ('broken', 'backbone=dict(in_chanels=3)')):
        (folder / f'{name}.py').write_text(f'_base_ = [{str(CONFIG)!r}]\nmodel = dict({part})\n'
                                            'train_dataloader = dict(num_workers=1)\n')  # fewer batches wait there

    def run(names, *cases):
        entries = [Entry(name, folder / f'{name}.py', str(levir_like)) for name in names]
        *_, result = run_benchmark(entries, cases, ['float32'], rounds=2)
        write_result(result, folder / 'out' / 'report')
        markdown = (folder / 'out' / 'report.md').read_text()
        assert markdown.strip() == report(result).strip()
        return re.sub(' +', ' ', markdown), json.loads((folder / 'out' / 'report.json').read_text())

    return run


def test_network_rows_have_counts_times_memory_and_ratios(benchmark):
    """Two configurations, and one that cannot be built, which does not stop the others. In one test: it takes long."""
    markdown, result = benchmark(['a', 'b', 'broken'], Case('inference', 32, 3), Case('train', 192, 1))
    # by the field's counter: 78.92 GMAC at 256×256, and at 32×32 a sixty-fourth
    first = result['counts'][0]
    assert first['parameters'] == 14_714_688 + 21_012_861 and first['trainable'] == 21_012_861
    assert first['macs'] / 1e9 == pytest.approx(78.92 / 64, rel=0.01)
    assert '| a | 35,727,549 | 21,012,861 | 1.2' in markdown
    # a row for each in every case
    cases = result['cases']
    assert [(case['task'], case['size'], case['batch']) for case in cases] == [('inference', 32, 3), ('train', 192, 1)]
    for case in cases:
        assert [row['config'] for row in case['rows']] == ['a', 'b', 'broken']
        for row in case['rows'][:2]:
            assert len(row['seconds']) == 2 and all(0 < second < 10 for second in row['seconds'])
        assert 'in_chanels' in case['rows'][2]['error']
    assert 'failed:' in markdown
    # ratios against the first
    medians = [sum(row['seconds']) / 2 for row in cases[0]['rows'][:2]]
    line = next(line for line in markdown.splitlines() if line.startswith('| b | float32 |'))
    assert float(re.findall(r'\| ([\d.]+) \| [\d.]+ \(', line)[0]) == pytest.approx(medians[0] / medians[1], abs=0.01)
    # memory of the process, libraries and weights included; less with activation checkpointing
    without, with_cp = (row['peak_memory'] for row in cases[1]['rows'][:2])
    assert 2**28 < with_cp < 2**33
    assert with_cp < without


def test_data_rows_have_times_with_and_without_training(benchmark):
    markdown, result = benchmark(['a', 'b', 'broken'], Case('end_to_end', batch=2), Case('data'), Case('cold_data'))
    cases = result['cases']
    assert [(case['task'], case['size'], case['batch']) for case in cases] == [
        ('end_to_end', 0, 2), ('data', 0, 1), ('cold_data', 0, 1)]
    for case in cases:
        assert [row['config'] for row in case['rows']] == ['a', 'b', 'broken']
        for row in case['rows'][:2]:
            assert len(row['seconds']) == 2 and all(0 < second < 10 for second in row['seconds'])
    assert 'in_chanels' in cases[0]['rows'][2]['error']
    assert 'failed:' in markdown and 'Train, with its data pipeline, batch 2' in markdown


@pytest.mark.parametrize('config', [CONFIG, find_config('ifn_256x256_40k_4bands.py')], ids=['colours', 'four bands'])
def test_onnx_runtime_is_measured_in_inference_only(config):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed: pip install ifn_plugin[export]')
    *_, result = run_benchmark([Entry('a', config)], [Case('inference', 64, 2), Case('train', 32, 1)], [ONNX], rounds=2)
    inference, training = (case['rows'][0] for case in result['cases'])
    assert inference['variant'] == 'onnxruntime' and len(inference['seconds']) == 2
    assert all(0 < seconds < 10 for seconds in inference['seconds'])
    assert 'does not train' in training['error']


def test_the_variants_precision_replaces_the_configurations(tmp_path):
    config = tmp_path / 'amp.py'
    config.write_text(f"_base_ = [{str(CONFIG)!r}]\nmodel = dict(backbone=dict(init_cfg=None))\n"
                      "optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale='dynamic')\n")
    subject = Subject(config, 'float32', None)
    subject.start(Case('train', 32, 2))
    assert subject.run() > 0
    subject.stop()


def test_fewer_pairs_than_a_batch_are_refused(levir_like, tmp_path):
    config = tmp_path / 'few.py'
    config.write_text(f"_base_ = [{str(CONFIG)!r}]\nmodel = dict(backbone=dict(init_cfg=None))\n"
                      "train_dataloader = dict(num_workers=0, persistent_workers=False, drop_last=True,\n"
                      "                        sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))\n")
    with pytest.raises(ValueError, match='gives no batch'):
        Subject(config, 'float32', str(levir_like)).start(Case('end_to_end', 0, 1000))


def test_a_pipe_in_a_name_stays_in_its_cell():
    rows = [dict(config='a|b', variant='float32', seconds=[0.1], peak_memory=None)]
    text = report(dict(device='CPU', rounds=1, cases=[dict(task='train', size=8, batch=1, rows=rows)]))
    assert r'| a\|b ' in text


@pytest.mark.parametrize('content, message', [
    ('{"device', 'is not a JSON file of a benchmark'), ('[]', 'is not a result'),
    ('{"cases": []}', 'Fix: name the JSON file')])
def test_a_file_that_is_not_a_result_is_named(tmp_path, content, message):
    path = tmp_path / 'cost.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=rf'cost\.json .*{message}|{message}'):
        read_result(path)
