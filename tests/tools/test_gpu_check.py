import json

import pytest

from ifn_plugin.analysis.gpu_check import PARTS, runner
from ifn_plugin.tools import gpu_check


def test_a_failure_is_the_exit_status(monkeypatch, tmp_path):
    def run_part(name, *_):
        yield dict(line='told')
        if name == 'cost':
            raise RuntimeError('out of memory')

    monkeypatch.setattr(runner, 'run_part', run_part)
    out = tmp_path / 'check.json'
    with pytest.raises(SystemExit) as left:
        gpu_check.main(['--out', str(out)])
    assert left.value.code == 1 and len(json.loads(out.read_text())['parts']) == len(PARTS)
    gpu_check.main(['--out', str(out), '--parts', 'pipeline', 'training'])
    assert [part['part'] for part in json.loads(out.read_text())['parts']] == ['pipeline', 'training']


@pytest.mark.parametrize('arguments, message', [
    (['--minutes', '0'], '--minutes has to be above 0'), (['--minutes', 'nan'], '--minutes has to be above 0'),
    (['--parts', 'speed'], 'invalid choice')])
def test_wrong_arguments_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit):
        gpu_check.parse_args(arguments)
    assert message in capsys.readouterr().err
