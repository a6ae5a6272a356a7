import cv2
import numpy as np
import pytest
from layouts import lay_out
from mmengine.config import Config
from mmengine.registry import DefaultScope

from ifn_plugin.registry import DATASETS
from ifn_plugin.tools.pack_dataset import main
from ifn_plugin.utils.configurations import find_config


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
    (lambda root: None, ['{root}/train', '{root}'], 'contains .*choose a folder outside'),
    (lambda root: None, ['ifn_256x256_40k_levirdc.py', '{root}'], 'Did you mean ifn_256x256_40k_levircd.py'),
    (lambda root: None, ['ifn_256x256_40k_4bands.py', '{root}'], 'loaded by LoadBands, but only images of 8 bits'),
    (lambda root: None, ['ifn_demo.py', '{root}', '--changed', '1', '--folders', 'a', 'b', 'c'],
     '--folders --changed would have no effect'),
    (lambda root: None, ['{root}', '{root}-packed', '--cfg-options', 'a=1'], '--cfg-options would have no effect'),
])
def test_errors_are_a_sentence_without_traceback(levir_root, spoil, arguments, message):
    spoil(levir_root)
    with pytest.raises(SystemExit, match=message):
        main([argument.format(root=levir_root) for argument in arguments])


@pytest.mark.parametrize('name', ['ifn_mmseg_256x256_40k_levircd.py', 'ifn_512x512_40k_clcd.py',
                                  'ifn_256x256_120k_svcd.py', 'ifn_256x256_40k_whucd.py'])
def test_configuration_says_what_is_packed(levir_like, tmp_path, name):
    """Folders, suffixes, lists of pairs and label values; the packed samples are those of the files."""
    cfg = Config.fromfile(find_config(name))
    lay_out(cfg, levir_like, tmp_path / 'data')
    cfg.dump(tmp_path / 'own.py')
    main([str(tmp_path / 'own.py'), str(tmp_path / 'packed')])
    main([str(tmp_path / 'packed'), '--check'])
    for split, count in (('train', 4), ('val', 2), ('test', 2)):
        settings = cfg[f'{split}_dataloader'].dataset
        settings.pipeline = [step for step in settings.pipeline if 'Load' in step.type]
        packed = dict(data_root=str(tmp_path / 'packed' / split), img_suffix='.npy', seg_map_suffix='.npy',
                      type='ifn_plugin.LEVIRCDDataset', pipeline=settings.pipeline)
        with DefaultScope.overwrite_default_scope('mmseg'):
            originals, copies = DATASETS.build(settings), DATASETS.build(packed)
        assert len(originals) == len(copies) == count
        for original, copy in zip(originals, copies):
            assert all(np.array_equal(a, b) for a, b in zip(original['img'], copy['img']))
            assert np.array_equal(original['gt_seg_map'], copy['gt_seg_map']) and original['gt_seg_map'].max() == 1


def test_several_data_sets_of_a_split_are_packed_apart(levir_like, tmp_path):
    (tmp_path / 'own.py').write_text(f"""_base_ = {str(find_config('ifn_mmseg_256x256_40k_levircd.py'))!r}
own = dict(type='ifn_plugin.LEVIRCDDataset', pipeline=_base_.test_pipeline, indices=1)
one, two = (dict(data_root={str(levir_like)!r} + '/' + name, **own) for name in ('train', 'val'))
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[one, two]))
val_dataloader = test_dataloader = dict(dataset=dict(data_root={str(levir_like)!r}))
""")
    main([str(tmp_path / 'own.py'), str(tmp_path / 'packed')])
    found = {path.parts[-3]: len(list(path.parent.iterdir())) for path in (tmp_path / 'packed').rglob('A/*.npy')}
    assert found == {'train': 1, 'train-2': 1, 'val': 2, 'test': 2}
    main([str(tmp_path / 'own.py'), str(tmp_path / 'less'), '--cfg-options', 'test_dataloader.dataset.indices=1'])
    assert len(list((tmp_path / 'less' / 'test').rglob('A/*.npy'))) == 1


def test_data_sets_in_a_bucket_are_refused(tmp_path):
    (tmp_path / 'own.py').write_text(f"""_base_ = {str(find_config('ifn_mmseg_256x256_40k_levircd.py'))!r}
train_dataloader = dict(dataset=dict(data_root='s3://pairs'))
""")
    with pytest.raises(SystemExit, match='train split is in s3://pairs, but only files on disk are packed'):
        main([str(tmp_path / 'own.py'), str(tmp_path / 'packed')])
