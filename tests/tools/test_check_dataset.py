import re
import sys

import pytest

from ifn_plugin.datasets.packing import pack
from ifn_plugin.tools.check_dataset import main


@pytest.fixture(autouse=True)
def imagehash():
    pytest.importorskip('imagehash', reason='imagehash is not installed: pip install ifn_plugin[check]')


def test_command_prints_findings_and_fails_on_errors(levir_root, tmp_path, capsys):
    main([str(levir_root), '--out', str(tmp_path / 'page.html')])
    output = capsys.readouterr().out
    assert 'split: train, pairs read: 4, files in A, B, label: 4, 4, 4, sizes: 64×64, ' in output
    assert output.endswith(f'The page: {tmp_path / "page.html"}\n0 errors, 0 notes\n')
    (levir_root / 'val' / 'B' / '0001.png').unlink()
    with pytest.raises(SystemExit) as error:
        main([str(levir_root)])
    output = capsys.readouterr().out
    assert error.value.code == 1 and output.endswith('1 errors, 0 notes\n')
    assert re.search(r'^error: val: incomplete pair, missing: \S*val/B/0001', output, re.MULTILINE)


def test_a_packed_data_set(levir_root, tmp_path, capsys):
    pack(levir_root, tmp_path / 'packed')
    main([str(tmp_path / 'packed')])
    output = capsys.readouterr().out
    assert 'split: train, pairs read: 4, files in A, B, label: 4, 4, 4, sizes: 64×64, label values: 0, 1, ' in output


def test_without_imagehash_only_duplicates_are_left_out(levir_root, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'imagehash', None)
    main([str(levir_root)])
    output = capsys.readouterr().out
    assert 'note: Duplicates were not searched for: ' in output and '0 errors, 1 notes' in output


@pytest.mark.parametrize('dataset, message', [('{tmp}', 'has no folder A, B or label'),
                                              ('none.py', r'none\.py: no such file')])
def test_what_is_not_a_data_set_is_named(tmp_path, dataset, message):
    with pytest.raises(SystemExit, match=message):
        main([dataset.format(tmp=tmp_path)])


def test_names_that_are_not_utf8_are_printed(levir_root, tmp_path, capsys):
    try:
        (levir_root / 'train/A/0001.png').rename(levir_root / 'train/A/\udcb3\udcc7.png')
    except OSError:
        pytest.skip('this file system has UTF-8 only')
    with pytest.raises(SystemExit):
        main([str(levir_root), '--out', str(tmp_path / 'page.html'), '--pictures', '0'])
    assert re.search(r'missing: \S*B/\?\?\.\*', capsys.readouterr().out)
    assert '/B/??.*' in (tmp_path / 'page.html').read_text()


def test_settings_of_a_configuration_are_overridden(levir_root, capsys):
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    options = ['--cfg-options', *(f'{loader}.dataset.data_root={levir_root}' for loader in loaders)]
    main(['ifn_mmseg_256x256_40k_levircd.py', *options, 'train_dataloader.dataset.indices=3'])
    output = capsys.readouterr().out
    assert 'split: train, pairs read: 3,' in output and 'split: val, pairs read: 2,' in output
    with pytest.raises(SystemExit):
        main([str(levir_root), *options])
    assert '--cfg-options would have no effect, since' in capsys.readouterr().err


def test_a_negative_number_of_pictures_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(['folder', '--pictures', '-1'])
    assert '--pictures -1: use 0 or more pairs' in capsys.readouterr().err
