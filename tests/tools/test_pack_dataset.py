import cv2
import pytest

from ifn_plugin.tools.pack_dataset import main


def test_command_packs_and_checks(levir_root, tmp_path, capsys):
    packed = tmp_path / 'packed'
    for folder in list(levir_root.glob('*/A')):
        folder.rename(folder.with_name('before'))
    main([str(levir_root), str(packed), '--folders', 'before', 'B', 'label', '--suffixes', '.png', '.png', '.png',
          '--threshold', '127'])
    assert len(list(packed.rglob('*.npy'))) == 3 * 8
    main([str(packed), '--check'])
    output = capsys.readouterr().out
    assert '8 pairs to pack: ' in output and output.endswith('All files match their checksums.\n')
    (packed / 'train' / 'A' / '0000.npy').unlink()
    with pytest.raises(SystemExit, match=r'0000\.npy is missing\.\nFix: remove these files and pack again'):
        main([str(packed), '--check'])


@pytest.mark.parametrize('spoil, arguments, message', [
    (lambda root: cv2.imwrite(str(root / 'train' / 'label' / '0001.png'), cv2.imread(str(root / 'train/A/0001.png'))),
     ['{root}', '{root}-packed'], r'label.0001\.png'),
    (lambda root: (root / 'train' / 'B' / '0001.png').unlink(), ['{root}', '{root}-packed'], r'B/0001\.\*'),
    (lambda root: None, ['{root}', '{root}/packed'], 'choose a folder outside'),
    (lambda root: None, ['{root}', '--check'], 'nothing was packed here'),
    (lambda root: None, ['{root}'], 'SRC DST'),
])
def test_errors_are_a_sentence_without_traceback(levir_root, spoil, arguments, message):
    spoil(levir_root)
    with pytest.raises(SystemExit, match=message):
        main([argument.format(root=levir_root) for argument in arguments])
