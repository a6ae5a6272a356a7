import json
import re
from pathlib import Path

import pytest

from ifn_plugin.tools.benchmark import Case, Subject, parse_args

CONFIG = Path(__file__).parents[2] / 'configs' / 'ifn_mmseg' / 'ifn_mmseg_256x256_40k_levircd.py'


@pytest.fixture(scope='module')
def benchmark(tmp_path_factory, python, levir_like):
    """A function that runs the command on configurations by name, and gives its Markdown and JSON."""
    folder = tmp_path_factory.mktemp('benchmark')
    for name, part in (('a', ''), ('b', 'decode_head=dict(with_cp=True)'), ('broken', 'backbone=dict(in_chanels=3)')):
        (folder / f'{name}.py').write_text(f'_base_ = [{str(CONFIG)!r}]\nmodel = dict({part})\n'
                                            'train_dataloader = dict(num_workers=1)\n')  # fewer batches wait there

    def run(names, *arguments):
        output = python('-m', 'ifn_plugin.tools.benchmark', *(folder / f'{name}.py' for name in names),
                        '--names', *names, '--variants', 'float32', *arguments, '--data-root', levir_like,
                        '--rounds', 2, '--out', folder / 'out' / 'report')
        markdown = (folder / 'out' / 'report.md').read_text()
        assert markdown.strip() in output
        return markdown, json.loads((folder / 'out' / 'report.json').read_text())

    return run


def test_network(benchmark):
    """Two configurations, and one that cannot be built, which does not stop the others. In one test: it takes long."""
    markdown, result = benchmark(['a', 'b', 'broken'], '--inference', '32x3', '--train', '192x1')
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


def test_data(benchmark):
    markdown, result = benchmark(['a', 'b', 'broken'], '--end-to-end', 2, '--data', '--cold-data')
    cases = result['cases']
    assert [(case['task'], case['size'], case['batch']) for case in cases] == [
        ('end_to_end', 0, 2), ('data', 0, 1), ('cold_data', 0, 1)]
    for case in cases:
        assert [row['config'] for row in case['rows']] == ['a', 'b', 'broken']
        for row in case['rows'][:2]:
            assert len(row['seconds']) == 2 and all(0 < second < 10 for second in row['seconds'])
    assert 'in_chanels' in cases[0]['rows'][2]['error']
    assert 'failed:' in markdown and 'Train, with its data pipeline, batch 2' in markdown


def test_onnx_runtime(python, tmp_path):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed: pip install ifn_plugin[export]')
    python('-m', 'ifn_plugin.tools.benchmark', CONFIG, '--variants', 'onnxruntime', '--inference', '64x2', '--train',
           '32x1', '--rounds', 2, '--out', tmp_path / 'report')
    inference, training = (case['rows'][0] for case in json.loads((tmp_path / 'report.json').read_text())['cases'])
    assert inference['variant'] == 'onnxruntime' and len(inference['seconds']) == 2
    assert all(0 < seconds < 10 for seconds in inference['seconds'])
    assert 'does not train' in training['error']


@pytest.mark.parametrize('arguments, message', [
    ([], 'nothing to measure'),
    (['--train', '256'], 'use SIZExBATCH'),
    (['--train', '256x0'], 'at least 1'),
    (['--train', '64x1', '--variants', 'half'], 'use auto'),
    (['--train', '64x1', '--variants', 'float32+fast'], r'\+channels_last'),
    (['--train', '64x1', '--data-root', 'a', 'b'], 'one folder, or one for each'),
    (['--train', '64x1', '--names', 'a', 'b'], 'one name for each'),
    (['--train', '64x1', '--rounds', '0'], 'at least 1'), (['--end-to-end', '0'], 'at least 1'),
])
def test_wrong_arguments_are_said(capsys, arguments, message):
    with pytest.raises(SystemExit):
        parse_args(['config.py', *arguments])
    assert re.search(message, capsys.readouterr().err)


def test_two_rows_do_not_have_one_name(capsys):
    with pytest.raises(SystemExit):
        parse_args([str(CONFIG), str(CONFIG), '--data'])
    assert 'tell them apart by --names' in capsys.readouterr().err


def test_the_variant_alone_says_the_precision(tmp_path):
    config = tmp_path / 'amp.py'
    config.write_text(f"_base_ = [{str(CONFIG)!r}]\nmodel = dict(backbone=dict(init_cfg=None))\n"
                      "optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale='dynamic')\n")
    subject = Subject(str(config), 'float32', None)
    subject.start(Case('train', 32, 2))
    assert subject.run() > 0
    subject.stop()


def test_fewer_pairs_than_a_batch(levir_like, tmp_path):
    config = tmp_path / 'few.py'
    config.write_text(f"_base_ = [{str(CONFIG)!r}]\nmodel = dict(backbone=dict(init_cfg=None))\n"
                      "train_dataloader = dict(num_workers=0, persistent_workers=False, drop_last=True,\n"
                      "                        sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))\n")
    with pytest.raises(ValueError, match='fewer pairs than a batch'):
        Subject(str(config), 'float32', str(levir_like)).start(Case('end_to_end', 0, 1000))
