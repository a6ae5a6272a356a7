import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS as MMSEG_DATASETS

from ifn_plugin.datasets import LEVIRCDDataset, LoadChangeLabel, LoadPair
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.datasets.packing import check, find_splits, pack, read_sums
from ifn_plugin.fileio import write_atomic
from ifn_plugin.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs' / 'ifn'


def samples(root):
    suffix = '.npy' if list(root.rglob('*.npy')) else None
    dataset = LEVIRCDDataset(data_root=str(root), img_suffix=suffix, seg_map_suffix=suffix)
    for index in range(len(dataset)):
        results = LoadChangeLabel()(LoadPair()(dataset.get_data_info(index)))
        yield (*results['img'], results['gt_seg_map'])


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


@pytest.fixture
def packed(levir_root, tmp_path):
    pack(levir_root, tmp_path / 'packed')
    return tmp_path / 'packed'


def test_packed_images_are_the_originals(levir_root, packed):
    for split in ('train', 'val', 'test'):
        pairs = list(zip(samples(levir_root / split), samples(packed / split), strict=True))
        assert pairs
        for original, copy in pairs:
            for a, b in zip(original, copy):
                assert a.dtype == b.dtype and np.array_equal(a, b)
                assert is_mapped(b)


def test_arrays_that_were_not_packed_are_checked_like_images(tmp_path):
    label = tmp_path / 'label.npy'
    np.save(label, np.array([[0, 255]], np.uint8))
    assert LoadChangeLabel()(dict(seg_map_path=str(label)))['gt_seg_map'].tolist() == [[0, 1]]
    np.save(label, np.array([[0, 7]], np.uint8))
    with pytest.raises(ValueError, match=r'label\.npy has the values 7'):
        LoadChangeLabel()(dict(seg_map_path=str(label)))
    np.save(label, np.array([[0, 1]]))
    assert LoadChangeLabel()(dict(seg_map_path=str(label)))['gt_seg_map'].tolist() == [[0, 1]]
    np.save(label, np.array([[0, 256]]))
    with pytest.raises(ValueError, match=r'label\.npy has int64 values'):
        LoadChangeLabel()(dict(seg_map_path=str(label)))


def test_ignored_pixels_stay_ignored(tmp_path):
    for kind in ('A', 'B', 'label'):
        (tmp_path / 'source' / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'source' / kind / 'x.png'), np.array([[0, 1, 255]], np.uint8))
    pack(tmp_path / 'source', tmp_path / 'packed', changed=1)
    assert next(samples(tmp_path / 'packed'))[2].tolist() == [[0, 1, 255]]


def test_sizes_and_formats_may_differ(tmp_path):
    source = tmp_path / 'source'
    rng = np.random.default_rng(0)
    for name, suffix, shape in (('a', 'png', (5, 7)), ('b/c', 'jpg', (33, 20)), ('d', 'tif', (64, 64))):
        for kind in ('A', 'B'):
            (source / kind / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(source / kind / f'{name}.{suffix}'), rng.integers(0, 256, (*shape, 3), np.uint8))
        (source / 'label' / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(source / 'label' / f'{name}.png'), rng.integers(0, 2, shape, np.uint8) * 255)
    assert pack(source, tmp_path / 'packed') == 3
    for original, copy in zip(samples(source), samples(tmp_path / 'packed'), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(original, copy))


def test_size_is_printed_and_free_space_is_checked_before_packing(levir_root, tmp_path, monkeypatch, capsys):
    bytes_needed = 8 * 7 * 64 * 64
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=bytes_needed - 1))
    with pytest.raises(OSError, match='GiB are needed'):
        pack(levir_root, tmp_path / 'packed')
    assert '8 pairs to pack' in capsys.readouterr().out
    assert not list((tmp_path / 'packed').rglob('*.npy'))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=bytes_needed))
    assert pack(levir_root, tmp_path / 'packed') == 8


def test_checksums_are_sha256sums(packed):
    if shutil.which('sha256sum') is None:
        pytest.skip('the command sha256sum is not on this machine')
    for split in ('train', 'val', 'test'):
        subprocess.run(['sha256sum', '--check', '--strict', '--quiet', 'SHA256SUMS'], cwd=packed / split, check=True)


def test_damage_is_found_and_named(packed):
    assert check(packed) == []
    files = sorted((packed / 'train' / 'A').glob('*.npy'))
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:-10])
    files[2].unlink()
    shutil.copy(files[3], packed / 'train' / 'B' / 'other.npy')
    faults = check(packed)
    assert len(faults) == 4
    for fault, (path, words) in zip(faults, [(files[0], 'damaged'), (files[1], 'damaged'), (files[2], 'missing'),
                                             (packed / 'train' / 'B' / 'other.npy', 'not in')]):
        assert path.name in fault and words in fault


def test_a_folder_that_is_gone_is_found(levir_root, packed):
    shutil.rmtree(packed / 'val' / 'B')
    assert [fault.rpartition('/')[2] for fault in check(packed)] == ['0000.npy is missing.', '0001.npy is missing.']
    with pytest.raises(FileNotFoundError, match='nothing was packed here'):
        check(levir_root)


def test_linked_splits_are_checked(packed, tmp_path):
    (packed / 'train').rename(tmp_path / 'elsewhere')
    (packed / 'train').symlink_to(tmp_path / 'elsewhere', target_is_directory=True)
    assert check(packed) == []
    path = packed / 'train' / 'A' / '0000.npy'
    path.write_bytes(path.read_bytes()[:-1])
    assert check(packed) == [f'{path} is damaged: its checksum differs.']


def test_missing_checksums_are_a_fault(packed):
    missing = [packed / split / 'SHA256SUMS' for split in ('test', 'train', 'val')]
    for number, path in enumerate(missing, start=1):
        path.unlink()
        assert check(packed) == [f'{path} is missing, so the files next to it cannot be checked.'
                                 for path in missing[:number]]


@pytest.mark.parametrize('content', [b'', b'no array', b'\x93NUMPY\x01\x00v\x00'])
def test_a_damaged_file_is_named_when_it_is_read(packed, content):
    path = packed / 'train' / 'B' / '0001.npy'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'B.0001\.npy is not a valid output of pack_dataset.*pack the data set again'):
        list(samples(packed / 'train'))


def test_a_cut_file_is_named_when_it_is_read(packed):
    path = packed / 'train' / 'label' / '0001.npy'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r'label.0001\.npy is not a valid output of pack_dataset'):
        list(samples(packed / 'train'))


def test_a_killed_run_is_continued(tmp_path):
    source, target = tmp_path / 'source', tmp_path / 'packed'
    write_dataset(source, dict(train=40), size=128)
    code = ('import os, time; write = os.fsync\n'
            'def slow(file): time.sleep(0.02); write(file)\n'
            'os.fsync = slow\n'
            'from pathlib import Path; from ifn_plugin.datasets.packing import pack\n'
            f'pack(Path(r"{source}"), Path(r"{target}"))')
    process = subprocess.Popen([sys.executable, '-c', code], cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    for _ in range(600):
        if len(read_sums(target / 'train')) >= 9:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (target / 'train' / 'SHA256SUMS').open('a') as file:
        file.write('0123456789')  # half a line
    finished = len(read_sums(target / 'train')) // 3
    assert 0 < finished < 40
    times = {path: path.stat().st_mtime_ns for path in target.rglob('*.npy') if f'{path.parent.name}/{path.name}'
             in read_sums(target / 'train')}
    assert pack(source, target) == 40 - finished
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert check(target) == [] and not list(target.rglob('*unfinished*'))
    assert pack(source, target) == 0


@pytest.mark.parametrize('age', [10, -86400])
def test_a_source_of_another_date_is_packed_again(levir_root, packed, age):
    """An older one, too, as from the archive that was the right one."""
    path = levir_root / 'val' / 'A' / '0000.png'
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    os.utime(path, (time.time() + age, ) * 2)
    assert pack(levir_root, packed) == 1
    assert (next(samples(packed / 'val'))[0] == 0).all() and check(packed) == []


def test_full_disk_names_the_file_and_leaves_no_half_one(levir_root, tmp_path, monkeypatch):
    left = [0] * 3

    def sync(descriptor):
        if not left:
            raise OSError(errno.ENOSPC, 'No space left on device')
        left.pop()

    monkeypatch.setattr(os, 'fsync', sync)
    with pytest.raises(OSError, match=r'disk is full: .*\.npy .*could not be written.*intact'):
        pack(levir_root, tmp_path / 'packed')
    monkeypatch.undo()
    assert not list((tmp_path / 'packed').rglob('*unfinished*'))
    pack(levir_root, tmp_path / 'packed')
    assert check(tmp_path / 'packed') == []


def test_a_pair_whose_repacking_was_killed_is_packed_again(levir_root, packed, monkeypatch):
    """What is there then is not taken for packed."""
    path = levir_root / 'val' / 'A' / '0000.png'
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    os.utime(path, (time.time() + 10, ) * 2)
    written = []

    def kill_after_the_first(content, path):
        if path.suffix == '.npy':
            if written:
                raise KeyboardInterrupt
            written.append(path)
        write_atomic(content, path)

    monkeypatch.setattr('ifn_plugin.datasets.packing.write_atomic', kill_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        pack(levir_root, packed)
    assert len(written) == 1
    monkeypatch.undo()
    assert pack(levir_root, packed) == 1 and check(packed) == []


def test_a_pair_without_source_is_named(levir_root, packed, capsys):
    for kind in ('A', 'B', 'label'):
        (levir_root / 'val' / kind / '0001.png').unlink()
    assert pack(levir_root, packed) == 0
    assert '0001.npy no longer has a source' in capsys.readouterr().out


def test_labels_saved_with_loss_need_a_threshold(levir_root, tmp_path):
    expected = []
    for path in sorted((levir_root / 'val' / 'label').iterdir()):
        label = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path.with_suffix('.jpg')), label)
        path.unlink()
        expected.append(cv2.imread(str(path.with_suffix('.jpg')), cv2.IMREAD_GRAYSCALE) > 127)
    assert len(np.unique(cv2.imread(str(path.with_suffix('.jpg')), cv2.IMREAD_GRAYSCALE))) > 2
    with pytest.raises(ValueError, match=r'has the values .*threshold'):
        pack(levir_root / 'val', tmp_path / 'without')
    pack(levir_root / 'val', tmp_path / 'packed', threshold=127)
    assert all(np.array_equal(label, truth) for (*_, label), truth in zip(samples(tmp_path / 'packed'), expected))
    # what has one meaning is not mixed with another
    with pytest.raises(ValueError, match=r'packed with other settings \(.*threshold=127; now .*threshold=100\)'):
        pack(levir_root / 'val', tmp_path / 'packed', threshold=100)


@pytest.mark.parametrize('spoil, message', [
    (lambda root: cv2.imwrite(str(root / 'train' / 'label' / '0001.png'), np.full((64, 64), 7, np.uint8)),
     r'label.0001\.png has the values 7'),
    (lambda root: (root / 'train' / 'B' / '0001.png').write_text('no image'), r'B.0001\.png is not a readable image'),
    (lambda root: (root / 'train' / 'B' / '0001.png').unlink(), r'B/0001\.\*'),
    (lambda root: (root / 'train' / 'B').rename(root / 'train' / 'b'), 'train/B: no such folder, so this split would'),
])
def test_bad_input_is_named(levir_root, tmp_path, spoil, message):
    spoil(levir_root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pack(levir_root, tmp_path / 'packed')


def test_folders_that_do_not_fit_are_refused(levir_root, tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder contains A, B and label'):
        pack(tmp_path / 'nothing', tmp_path / 'packed')
    with pytest.raises(ValueError, match='choose a folder outside'):
        pack(levir_root, levir_root / 'packed')


def test_the_configurations_give_the_same_samples(levir_like, tmp_path):
    """Unrotated to the bit, from PNG through mmseg's transforms and from packed files through the composed ones."""
    pack(levir_like, tmp_path / 'packed')
    drawn = []
    for name, root in (('ifn_mmseg_256x256_40k_levircd', levir_like),
                       ('ifn_256x256_40k_levircd-packed', tmp_path / 'packed')):
        cfg = Config.fromfile(CONFIGS / f'{name}.py').train_dataloader.dataset
        cfg.data_root = str(root)
        for transform in [inner for outer in cfg.pipeline for inner in (outer, *outer.get('transforms', []))]:
            if 'crop_size' in transform:
                transform.crop_size = (40, 40)
            transform.pop('prob' if transform.type == 'mmseg.RandomRotate' else 'rotate_prob', None)
            if transform.type == 'mmseg.RandomRotate':
                transform.prob = 0
        with DefaultScope.overwrite_default_scope('mmseg'):
            dataset = DATASETS.build(cfg)
            results = []
            for seed in range(12):
                np.random.seed(seed)
                results.append(dataset[seed % 4])
        drawn.append(results)
    for a, b in zip(*drawn):
        assert a['inputs'].shape == (6, 40, 40)
        assert torch.equal(a['inputs'], b['inputs'])
        assert torch.equal(a['data_samples'].gt_sem_seg.data, b['data_samples'].gt_sem_seg.data)


def test_a_users_data_set_packs_what_it_lists(levir_root, tmp_path, monkeypatch):

    class Chosen(LEVIRCDDataset):

        def load_data_list(self):
            return super().load_data_list()[1:]

    monkeypatch.setitem(MMSEG_DATASETS.module_dict, 'Chosen', Chosen)
    settings = dict(type='Chosen', data_root=str(levir_root / 'train'), pipeline=[
        dict(type='ifn_plugin.LoadPair'), dict(type='ifn_plugin.LoadChangeLabel')])
    assert pack(Config(dict(train_dataloader=dict(dataset=settings))), tmp_path / 'packed') == 3
    assert sorted(path.name for path in (tmp_path / 'packed' / 'train' / 'A').iterdir()) == [
        '0001.npy', '0002.npy', '0003.npy']


def test_dates_in_one_folder_are_packed_into_two(tmp_path):
    """As in xBD."""
    source, packed = tmp_path / 'xbd' / 'tier', tmp_path / 'packed'
    for folder in ('images', 'targets'):
        (source / folder).mkdir(parents=True)
    for date, value in (('pre', 60), ('post', 200)):
        cv2.imwrite(str(source / 'images' / f'quake_{date}_disaster.png'), np.full((8, 8, 3), value, np.uint8))
        cv2.imwrite(str(source / 'targets' / f'quake_{date}_disaster_target.png'), np.eye(8, dtype=np.uint8) * 3)
    suffixes = ['_pre_disaster.png', '_post_disaster.png', '_post_disaster_target.png']
    pack(tmp_path / 'xbd', packed, threshold=1, folders=['images', 'images', 'targets'], suffixes=suffixes)
    assert check(packed) == []
    dataset = LEVIRCDDataset(data_root=str(packed / 'tier'), img_suffix='.npy', seg_map_suffix='.npy')
    sample = LoadChangeLabel()(LoadPair()(dataset.get_data_info(0)))
    assert [image.mean() for image in sample['img']] == [60, 200]
    assert np.array_equal(sample['gt_seg_map'], np.eye(8))
    with pytest.raises(ValueError, match='have the same file as date 1 and date 2'):
        pack(tmp_path / 'xbd', tmp_path / 'other', threshold=1, folders=['images', 'images', 'targets'],
             suffixes=[suffixes[0], suffixes[0], suffixes[2]])


def test_what_is_not_an_image_is_named_before_anything_is_packed(levir_root, tmp_path):
    path = levir_root / 'train' / 'A' / '0000.png'
    path.write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'0000\.png is not a readable image \(8 bytes'):
        pack(levir_root, tmp_path / 'packed')


def test_what_a_mac_adds_to_archives_is_left_out(levir_root, tmp_path):
    shutil.copytree(levir_root, tmp_path / 'data')
    for path in [*(tmp_path / 'data').rglob('*.png')]:
        twin = tmp_path / 'data' / '__MACOSX' / path.relative_to(tmp_path / 'data').with_name(f'._{path.name}')
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(b'Mac OS X')
    assert find_splits(tmp_path / 'data') == find_splits(levir_root)
