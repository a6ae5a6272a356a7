import json

import pytest

from ifn_plugin.analysis.comparison import RunError
from ifn_plugin.tools.compare import main, parse_args


def test_command_prints_scores_and_failures(tmp_path, monkeypatch, capsys):
    """One model is trained, the other fails."""

    def run(folder, say):
        if folder.parent.name == 'b':
            raise RunError('no memory')
        result = dict(metrics={'whole': dict(F1=80.)}, validations=[], iteration=2, time=0.5)
        folder.mkdir()
        say('train: iteration 1 of 2')
        say('train: iteration 2 of 2')  # within 30 seconds
        (folder / 'result.json').write_text(json.dumps(result))
        return result

    monkeypatch.setattr('ifn_plugin.analysis.comparison.comparison.run', run)
    with pytest.raises(SystemExit, match='1 runs failed, see above'):
        main(['levircd_256x256_40k.py', 'ifn_256x256_40k_levircd.py', 'unet_256x256_40k_levircd.py', '--names',
              'a', 'b', '--work-dir', str(tmp_path), '--seeds', '3', '3', '--cfg-options', 'train_cfg.max_iters=2'])
    output = capsys.readouterr()
    assert output.err == ('a, seed 3 (1 of 2): begins\na, seed 3 (1 of 2): train: iteration 1 of 2\n'
                          'a, seed 3 (1 of 2): whole F1@0.5 80.00\nb, seed 3 (2 of 2): begins\n'
                          'b, seed 3 (2 of 2): failed: no memory\n')
    assert output.out == (tmp_path / 'comparison.md').read_text()
    assert 'F1@val, like the other scores with @val, at the threshold' in output.out.partition('### Test, whole\n')[0]
    assert 'b failed: seed 3: no memory\n' in output.out and '| a     | 0.500 ' in output.out


def test_errors_are_a_sentence_without_traceback(tmp_path):
    with pytest.raises(SystemExit, match='has no scores to compare'):
        main(['levircd_256x256_40k.py', 'ifn_256x256_40k_levircd.py', '--work-dir', str(tmp_path), '--cfg-options',
              'test_evaluator=None'])


@pytest.mark.parametrize('arguments, message', [
    (['a.py', 'b/a.py'], 'two configurations have the same name'),
    (['a.py', '--names', 'a', 'b'], 'one name for each of the 1'),
    (['a.py', '--names', '../a'], 'a name becomes a folder'),
    (['a.py', '--names', '..'], 'a name becomes a folder'),
    (['a.py', '--cost', '256'], 'use SIZExBATCH'),
])
def test_wrong_arguments_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit):
        parse_args(['protocol.py', *arguments])
    assert message in capsys.readouterr().err
