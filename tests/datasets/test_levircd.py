import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.fileio import BaseStorageBackend, register_backend

from ifn_plugin.datasets import LEVIRCDDataset, LoadChangeLabel, LoadPair

FOLDERS = ('A', 'B', 'label')


def write(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 8), value, np.uint8))


def write_pair(root: Path, name: str) -> None:
    for folder in FOLDERS:
        write(root / folder / f'{name}.png')


def names(dataset: LEVIRCDDataset) -> list[str]:
    return [Path(dataset.get_data_info(i)['img_path'][0]).stem for i in range(len(dataset))]


def test_lists_pairs_sorted(tmp_path):
    for name in ('b', 'c', 'a'):
        write_pair(tmp_path, name)
    dataset = LEVIRCDDataset(data_root=str(tmp_path))
    assert names(dataset) == ['a', 'b', 'c']
    for number, name in enumerate(('a', 'b', 'c')):
        item = dataset.get_data_info(number)
        assert item['img_path'] == [str(tmp_path / 'A' / f'{name}.png'), str(tmp_path / 'B' / f'{name}.png')]
        assert item['seg_map_path'] == str(tmp_path / 'label' / f'{name}.png')


def test_items_have_what_open_cd_needs(levir_root):
    item = LEVIRCDDataset(data_root=str(levir_root / 'train')).get_data_info(0)
    assert isinstance(item['img_path'], list) and len(item['img_path']) == 2
    assert Path(item['seg_map_path']).is_file()
    assert item['format_seg_map'] == 'to_binary'
    assert item['label_map'] is None
    assert item['seg_fields'] == []
    assert item['reduce_zero_label'] is False


def test_items_are_independent(levir_root):
    # loading appends to seg_fields: a second look at the item must not see that
    dataset = LEVIRCDDataset(data_root=str(levir_root / 'train'), serialize_data=False)
    dataset.get_data_info(0)['seg_fields'].append('gt_seg_map')
    assert dataset.get_data_info(0)['seg_fields'] == []
    assert dataset.get_data_info(1)['seg_fields'] == []


def test_classes_are_unchanged_and_changed(levir_root):
    dataset = LEVIRCDDataset(data_root=str(levir_root / 'train'), test_mode=True)
    assert dataset.metainfo['classes'] == ('unchanged', 'changed')
    assert len(dataset.metainfo['palette']) == 2


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_splits_by_prefix(real_data, split):
    prefix = dict(img_path_from=f'{split}/A', img_path_to=f'{split}/B', seg_map_path=f'{split}/label')
    dataset = LEVIRCDDataset(data_root=str(real_data), data_prefix=prefix)
    assert len(dataset) == len(list((real_data / split / 'A').iterdir()))
    for number in range(min(2, len(dataset))):
        item = LoadChangeLabel()(LoadPair()(dataset.get_data_info(number)))
        assert item['img'][0].shape == item['img'][1].shape == (*item['gt_seg_map'].shape, 3)
        assert set(np.unique(item['gt_seg_map'])) <= {0, 1}


def test_absolute_prefix_without_root(levir_root):
    prefix = dict(zip(('img_path_from', 'img_path_to', 'seg_map_path'),
                      (str(levir_root / 'val' / folder) for folder in FOLDERS)))
    assert names(LEVIRCDDataset(data_prefix=prefix)) == ['0000', '0001']


def test_suffixes_may_differ_within_a_pair(tmp_path):
    write(tmp_path / 'A' / 'x.jpg')
    write(tmp_path / 'B' / 'x.JPEG')
    write(tmp_path / 'label' / 'x.png')
    write(tmp_path / 'A' / 'y.tif')
    write(tmp_path / 'B' / 'y.bmp')
    write(tmp_path / 'label' / 'y.tiff')
    dataset = LEVIRCDDataset(data_root=str(tmp_path))
    assert names(dataset) == ['x', 'y']
    assert dataset.get_data_info(0)['seg_map_path'].endswith('x.png')
    assert [Path(path).name for path in dataset.get_data_info(0)['img_path']] == ['x.jpg', 'x.JPEG']


def test_suffixes_select_the_files(tmp_path):
    for folder in FOLDERS:
        write(tmp_path / folder / 'x.png')
    for folder in ('A', 'B'):
        write(tmp_path / folder / 'x.tif')
    dataset = LEVIRCDDataset(data_root=str(tmp_path), img_suffix='.tif', seg_map_suffix='.PNG')
    item = dataset.get_data_info(0)
    assert len(dataset) == 1
    assert [Path(path).name for path in (*item['img_path'], item['seg_map_path'])] == ['x.tif', 'x.tif', 'x.png']


def test_names_with_dots(tmp_path):
    for name in ('tile_0.5', 'tile_0.25'):
        write_pair(tmp_path, name)
    assert names(LEVIRCDDataset(data_root=str(tmp_path))) == ['tile_0.25', 'tile_0.5']


@pytest.mark.parametrize('lines', ['0002\n0000\n', '0002.png\n0000.png', '\n 0002 \r\n0000.png\n\n'])
def test_ann_file(levir_root, lines):
    (levir_root / 'train' / 'list.txt').write_text(lines)
    dataset = LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file='list.txt')
    assert names(dataset) == ['0002', '0000']


def test_pairs_listed_twice_count_twice_with_a_warning(levir_root, capsys):
    (levir_root / 'train' / 'list.txt').write_text('0002\n0000\n0002.png')
    dataset = LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file='list.txt')
    assert names(dataset) == ['0002', '0000', '0002']
    assert 'lists these pairs several times, and so they count several times: 0002.' in capsys.readouterr().out


def test_ann_file_needs_only_what_it_lists(levir_root):
    (levir_root / 'train' / 'list.txt').write_text('0000')
    (levir_root / 'train' / 'label' / '0001.png').unlink()
    assert names(LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file='list.txt')) == ['0000']


@pytest.mark.parametrize('listed', ['city.2', 'city.2.png'])
def test_ann_file_with_dots(tmp_path, listed):
    write_pair(tmp_path, 'city.1')
    write_pair(tmp_path, 'city.2')
    (tmp_path / 'list.txt').write_text(listed)
    dataset = LEVIRCDDataset(data_root=str(tmp_path), ann_file='list.txt')
    assert [Path(path).name for path in dataset.get_data_info(0)['img_path']] == ['city.2.png', 'city.2.png']


def test_ann_file_does_not_fall_back_to_another_name(tmp_path):
    write_pair(tmp_path, 'city')
    (tmp_path / 'list.txt').write_text('city.2')
    with pytest.raises(FileNotFoundError, match=re.escape('city.2')):
        LEVIRCDDataset(data_root=str(tmp_path), ann_file='list.txt')


def test_names_with_accents_match_however_they_are_written(tmp_path):
    composed, decomposed = 'Orl\u00e9ans', 'Orle\u0301ans'
    for folder, name in zip(FOLDERS, (composed, decomposed, composed)):
        write(tmp_path / folder / f'{name}.png')
    item = LEVIRCDDataset(data_root=str(tmp_path)).get_data_info(0)
    assert all(Path(path).is_file() for path in (*item['img_path'], item['seg_map_path']))
    (tmp_path / 'list.txt').write_text(decomposed, encoding='utf-8')
    assert names(LEVIRCDDataset(data_root=str(tmp_path), ann_file='list.txt')) == [composed]


def test_unknown_names_of_a_list_are_named(levir_root):
    (levir_root / 'train' / 'list.txt').write_text('0000\ntrain_99')
    with pytest.raises(FileNotFoundError, match=r'1 of 2 pairs.*train/A/train_99\.\*.*add these files'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file='list.txt')


def test_a_missing_list_is_named(levir_root):
    with pytest.raises(FileNotFoundError, match=r'nothing\.txt'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file='nothing.txt')


def test_sub_folders(tmp_path):
    for name in ('north/1', 'south/1', '2'):
        write_pair(tmp_path, name)
    dataset = LEVIRCDDataset(data_root=str(tmp_path))
    found = [Path(dataset.get_data_info(i)['img_path'][1]).relative_to(tmp_path).as_posix() for i in range(3)]
    assert len(dataset) == 3
    assert found == ['B/2.png', 'B/north/1.png', 'B/south/1.png']
    assert dataset.get_data_info(2)['seg_map_path'] == str(tmp_path / 'label' / 'south' / '1.png')


def test_ignores_hidden_and_other_files(levir_root):
    train = levir_root / 'train'
    (train / 'A' / '._0000.png').write_bytes(b'resource fork')
    (train / 'A' / 'Thumbs.db').write_bytes(b'')
    (train / 'B' / '0000.txt').write_text('a note')
    (train / 'label' / 'folder.png').mkdir()
    assert names(LEVIRCDDataset(data_root=str(train))) == ['0000', '0001', '0002', '0003']


def test_ignores_hidden_folders(levir_root):
    train = levir_root / 'train'
    write(train / 'A' / '.ipynb_checkpoints' / '0000-checkpoint.png')
    assert names(LEVIRCDDataset(data_root=str(train))) == ['0000', '0001', '0002', '0003']


def test_hidden_folder_above_the_data_does_not_matter(tmp_path):
    write_pair(tmp_path / '.cache' / 'levir', 'x')
    assert names(LEVIRCDDataset(data_root=str(tmp_path / '.cache' / 'levir'))) == ['x']


@pytest.mark.parametrize('folder, prefix', [('A', 'img_path_from'), ('B', 'img_path_to'), ('label', 'seg_map_path')])
def test_a_missing_folder_is_named(levir_root, folder, prefix):
    shutil.rmtree(levir_root / 'train' / folder)
    with pytest.raises(FileNotFoundError, match=rf'train/{folder}: no such folder. Set data_root and .*{prefix}'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'))


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere/A: no such folder. Set data_root'):
        LEVIRCDDataset(data_root=str(tmp_path / 'nowhere'))


@pytest.mark.parametrize('folder', FOLDERS)
def test_an_empty_folder_is_refused(levir_root, folder):
    for path in (levir_root / 'train' / folder).iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=rf'train/{folder}: no image with suffix .*\.png.* Put the images'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'))


def test_a_folder_without_the_suffix_is_refused(levir_root):
    with pytest.raises(FileNotFoundError, match=r'train/A: no image with suffix \.jpg\. Put'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'), img_suffix='.jpg')


@pytest.mark.parametrize('folder', FOLDERS)
def test_a_missing_file_is_named(levir_root, folder):
    (levir_root / 'train' / folder / '0001.png').unlink()
    message = rf'1 of 4 pairs are incomplete. Missing: \S*train/{folder}/0001\.\*. Fix: add these files, or remove'
    with pytest.raises(FileNotFoundError, match=message):
        LEVIRCDDataset(data_root=str(levir_root / 'train'))


@pytest.mark.parametrize('folder, missing', [('B', 'A'), ('label', 'A'), ('A', 'B')])
def test_an_extra_file_is_named(levir_root, folder, missing):
    write(levir_root / 'train' / folder / 'extra.png')
    message = rf'1 of 5 pairs are incomplete. Missing: \S*train/{missing}/extra\.\*. Fix: add these files, or remove'
    with pytest.raises(FileNotFoundError, match=message):
        LEVIRCDDataset(data_root=str(levir_root / 'train'))


def test_many_missing_files_are_counted(tmp_path):
    for number in range(9):
        write_pair(tmp_path, str(number))
    for number in range(8):
        (tmp_path / 'B' / f'{number}.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'8 of 9 pairs.*B/4\.\* and 3 more\. Fix: add') as error:
        LEVIRCDDataset(data_root=str(tmp_path))
    assert 'B/5.' not in str(error.value)


@pytest.mark.parametrize('folder', FOLDERS)
def test_two_files_of_one_name_are_refused(levir_root, folder):
    write(levir_root / 'train' / folder / '0000.bmp')
    with pytest.raises(ValueError, match=rf'{folder}/0000\.bmp and .*{folder}/0000\.png have the same name\. Fix: '
                       'remove one of them'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'))


def test_linked_folders_are_read(tmp_path):
    for folder in FOLDERS:
        write(tmp_path / 'data' / folder / 'x.png')
        write(tmp_path / 'elsewhere' / folder / 'y.png')
        try:
            (tmp_path / 'data' / folder / 'site').symlink_to(tmp_path / 'elsewhere' / folder)
            (tmp_path / 'elsewhere' / folder / 'back').symlink_to(tmp_path / 'data' / folder)  # no way out
        except OSError:
            pytest.skip('no symbolic links here')
    assert names(LEVIRCDDataset(data_root=str(tmp_path / 'data'))) == ['y', 'x']


@pytest.mark.parametrize('content, message', [
    (b'', 'lists no pairs'), ('变化'.encode('gbk'), 'UTF-8'), ('0000'.encode('utf-16'), 'UTF-8')])
def test_a_list_that_cannot_be_read_is_named(levir_root, content, message):
    (levir_root / 'list.txt').write_bytes(content)
    with pytest.raises(ValueError, match=rf'list\.txt.*{message}'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file=str(levir_root / 'list.txt'))


def test_a_list_from_an_editor_that_marks_utf_8(levir_root):
    (levir_root / 'list.txt').write_text('0002\n', encoding='utf-8-sig')
    dataset = LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file=str(levir_root / 'list.txt'))
    assert names(dataset) == ['0002']


def test_folders_that_are_not_named_have_their_usual_names(levir_root):
    (levir_root / 'train' / 'label').rename(levir_root / 'train' / 'mask')
    assert len(LEVIRCDDataset(data_root=str(levir_root / 'train'), data_prefix=dict(seg_map_path='mask'))) == 4


def test_indices_beyond_the_last_pair_are_named(levir_root):
    root = levir_root / 'train'
    assert len(LEVIRCDDataset(data_root=root, indices=[0, -4])) == 2
    with pytest.raises(ValueError, match=r'indices has 4, -5, but .* has 4 pairs, counted from 0\. Fix: change'):
        LEVIRCDDataset(data_root=root, indices=[0, 4, -5])
    for nothing in (0, [], ()):
        with pytest.raises(ValueError, match=r'indices=\S+ selects no pairs\. Fix: change it'):
            LEVIRCDDataset(data_root=root, indices=nothing)


# both dates in one folder


def write_xbd(root: Path) -> dict:
    """Two pairs in the layout of xBD, and the settings for it."""
    for number in range(2):
        for date, value in (('pre', 60), ('post', 200)):
            write(root / 'images' / f'quake_{number}_{date}_disaster.png', value + number)
            write(root / 'targets' / f'quake_{number}_{date}_disaster_target.png', 0 if date == 'pre' else 255)
    return dict(
        data_root=str(root), data_prefix=dict(zip(PREFIXES, ('images', 'images', 'targets'))),
        img_suffix_from='_pre_disaster.png', img_suffix_to='_post_disaster.png',
        seg_map_suffix='_post_disaster_target.png')


PREFIXES = ('img_path_from', 'img_path_to', 'seg_map_path')


@pytest.mark.parametrize('listed', [None, 'quake_1\nquake_0', 'quake_1_pre_disaster.png', 'quake_1.png'])
def test_dates_in_one_folder_are_distinguished_by_their_suffixes(tmp_path, listed):
    settings = write_xbd(tmp_path)
    if listed is not None:
        (tmp_path / 'list.txt').write_text(listed)
        settings['ann_file'] = 'list.txt'
    item = LEVIRCDDataset(**settings).get_data_info(0)
    number = 0 if listed is None else 1
    assert item['img_path'] == [f'{tmp_path}/images/quake_{number}_{date}_disaster.png' for date in ('pre', 'post')]
    assert item['seg_map_path'] == f'{tmp_path}/targets/quake_{number}_post_disaster_target.png'
    sample = LoadChangeLabel()(LoadPair()(item))
    assert [image[0, 0, 0] for image in sample['img']] == [60 + number, 200 + number] and sample['gt_seg_map'].all()


def test_a_missing_date_is_named_with_its_suffix(tmp_path):
    settings = write_xbd(tmp_path)
    (tmp_path / 'images' / 'quake_1_post_disaster.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'Missing: \S*images/quake_1_post_disaster\.png\. Fix: add'):
        LEVIRCDDataset(**settings)


@pytest.mark.parametrize('more, what', [
    (dict(img_suffix_from=None, img_suffix_to=None, seg_map_suffix='_target.png'), 'date 1 and date 2'),
    (dict(img_suffix_to='_pre_disaster.PNG'), 'date 1 and date 2'),
    (dict(data_prefix=dict(img_path_from='images', img_path_to='images', seg_map_path='images'),
          seg_map_suffix='_post_disaster.png'), 'date 2 and label')])
def test_one_file_twice_is_refused(tmp_path, more, what):
    settings = write_xbd(tmp_path)
    with pytest.raises(ValueError, match=rf'pairs have the same file as {what}, such as \S*quake_0_\S*\.png\. Fix: '):
        LEVIRCDDataset(**settings | more)


def test_a_folder_linked_to_the_other_is_refused(levir_root):
    shutil.rmtree(levir_root / 'train' / 'B')
    try:
        (levir_root / 'train' / 'B').symlink_to(levir_root / 'train' / 'A')
    except OSError:
        pytest.skip('no symbolic links here')
    with pytest.raises(ValueError, match='4 of 4 pairs have the same file as date 1 and date 2'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'))


# lists


@pytest.mark.parametrize('line', [
    'A/0001.png B/0001.png label/0001.png', 'A/0001.png\tB/0001.png', '0001.png,0001.png,0001.png', '0001 1',
    'A/0001.png', 'train\\A\\0001.png'])
def test_lists_of_anything_but_names_are_refused(levir_root, line):
    (levir_root / 'list.txt').write_text(f'0000\n{line}\n')
    with pytest.raises(ValueError, match=r'list\.txt has the line .*0001.*Fix: write only its path .*, here 0001\.'):
        LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file=str(levir_root / 'list.txt'))


def test_a_list_of_columns_whose_files_are_missing(levir_root):
    (levir_root / 'list.txt').write_text('A/9.png B/9.png\n')
    with pytest.raises(ValueError, match=r"has the line 'A/9\.png B/9\.png', but a line must be the name of one pair"):
        LEVIRCDDataset(data_root=str(levir_root / 'train'), ann_file=str(levir_root / 'list.txt'))


def test_names_with_spaces_are_no_columns(tmp_path):
    write_pair(tmp_path, 'old town, 1 2.png')
    (tmp_path / 'list.txt').write_text('old town, 1 2.png')
    assert len(LEVIRCDDataset(data_root=str(tmp_path), ann_file='list.txt')) == 1


# data that do not lie on disk


@register_backend('ifn_plugin.bucket', prefixes='bucket')
class Bucket(BaseStorageBackend):
    """A store of files by address, which can list them."""

    files: dict[str, bytes] = {}

    def get(self, filepath):
        return self.files[filepath]

    def get_text(self, filepath, encoding='utf-8'):
        return self.files[filepath].decode(encoding)

    def exists(self, filepath):
        return filepath in self.files

    def join_path(self, filepath, *filepaths):
        return '/'.join((filepath, *filepaths))

    def list_dir_or_file(self, dir_path, list_dir=True, list_file=True, suffix=None, recursive=False):
        assert recursive and list_file and not list_dir
        return (path[len(dir_path) + 1:] for path in self.files if path.startswith(f'{dir_path}/'))


@pytest.fixture
def bucket(levir_root, monkeypatch):
    files = {f'bucket://data/{path.relative_to(levir_root).as_posix()}': path.read_bytes()
             for path in levir_root.rglob('*') if path.is_file()}
    monkeypatch.setattr(Bucket, 'files', files)
    return files


@pytest.mark.parametrize('backend_args', [None, dict(backend='ifn_plugin.bucket')])
def test_pairs_in_a_bucket_are_listed_and_read(levir_root, bucket, backend_args):
    bucket |= {'bucket://data/train/A/.hidden.png': b'', 'bucket://data/train/list.txt': b'0002.png\n0000'}
    dataset = LEVIRCDDataset(data_root='bucket://data/train', backend_args=backend_args)
    assert len(dataset) == 4
    item = dataset.get_data_info(1)
    assert [*item['img_path'], item['seg_map_path']] == [f'bucket://data/train/{kind}/0001.png' for kind in FOLDERS]
    images = LoadPair(backend_args)(item)['img']
    assert np.array_equal(images[0], cv2.imread(str(levir_root / 'train' / 'A' / '0001.png')))
    listed = LEVIRCDDataset(data_root='bucket://data/train', ann_file='list.txt', backend_args=backend_args)
    assert names(listed) == ['0002', '0000']


def test_missing_files_of_a_bucket_are_named(bucket):
    del bucket['bucket://data/train/B/0001.png']
    with pytest.raises(FileNotFoundError, match=r'Missing: bucket://data/train/B/0001\.\*'):
        LEVIRCDDataset(data_root='bucket://data/train')
    with pytest.raises(FileNotFoundError, match=r'bucket://data/none/A: no image with suffix'):
        LEVIRCDDataset(data_root='bucket://data/none')


@pytest.mark.parametrize('root, message', [
    ('https://example.org', 'HTTPBackend cannot list a folder'),
    ('gs://data', "mmengine has no file backend for 'gs'")])
def test_stores_that_cannot_list_are_refused(root, message):
    with pytest.raises(ValueError, match=rf'{root}: {message}\. Fix: copy the data set to disk'):
        LEVIRCDDataset(data_root=root)


def test_disks_may_be_named_as_a_backend(levir_root):
    assert len(LEVIRCDDataset(data_root=str(levir_root / 'train'), backend_args=dict(backend='local'))) == 4
