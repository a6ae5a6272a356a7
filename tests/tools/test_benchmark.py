import json
import re

import pytest

from ifn_plugin.tools.benchmark import main, parse_args
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.mark.slow
def test_command_prints_and_writes_the_tables(levir_like, tmp_path, capsys):
    main([str(CONFIG), '--names', 'mine', '--variants', 'float32', '--data', '--data-root', str(levir_like), '--rounds',
          '1', '--out', str(tmp_path / 'out' / 'report.md')])
    output = capsys.readouterr()
    assert output.out.strip() == (tmp_path / 'out' / 'report.md').read_text().strip()
    assert '### Training pipeline, files in memory\n\n| configuration' in output.out and '| mine ' in output.err
    case, = json.loads((tmp_path / 'out' / 'report.json').read_text())['cases']
    assert case['task'] == 'data' and len(case['rows'][0]['seconds']) == 1


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
def test_wrong_arguments_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit):
        parse_args(['config.py', *arguments])
    assert re.search(message, capsys.readouterr().err)


def test_two_rows_with_one_name_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_args([str(CONFIG), str(CONFIG), '--data'])
    assert 'give different ones with --names' in capsys.readouterr().err
