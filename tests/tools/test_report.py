import json

import pytest

from ifn_plugin.evaluation import scores
from ifn_plugin.tools.report import main


def test_names_that_are_no_utf8(tmp_path, capsys):
    counts = (1, 2, 3, 4)
    pair = dict(files=['A/\udcb3.png', 'B/\udcb3.png', 'label/\udcb3.png'], counts=counts, **scores(*counts))
    (tmp_path / '1').mkdir()
    (tmp_path / '1' / 'evaluation_test.json').write_text(json.dumps(
        dict(config='', protocols={'': dict(metrics=scores(*counts), pairs=[pair])})))
    main([str(tmp_path), '--names', 'run \udcb3', '--pairs', '0', '--out', str(tmp_path / 'page.html')])
    assert '<th>run ?</th>' in (tmp_path / 'page.html').read_text()
    assert '| run ? ' in capsys.readouterr().out and '| run ? ' in (tmp_path / 'page.md').read_text()
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit):
        main([str(tmp_path), '--pairs', '0', '--out', str(tmp_path / 'file' / 'page.html')])
    assert 'file is a file: name a folder' in capsys.readouterr().err


@pytest.mark.parametrize('arguments, message', [
    (['{tmp}', '{tmp}', '--names', 'a', 'a'], 'a different name for each'),
    (['{tmp}'], 'has neither a training log'),
    (['{tmp}', '--names', 'a', 'b'], '--names needs one name for each of the 1 folders'),
    (['{tmp}', '--out', 'page.pdf'], 'ends in .html'),
    (['{tmp}', '{tmp}/../{name}/'], 'name each folder once'),
])
def test_errors(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        main([argument.format(tmp=tmp_path, name=tmp_path.name) for argument in arguments])
    assert message in f'{error.value}{capsys.readouterr().err}'
    assert not list(tmp_path.iterdir())
