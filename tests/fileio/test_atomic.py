"""Atomic writes: complete files and folders or none, under any name that the disk allows."""

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifn_plugin.fileio import atomic_path, unfinished_path, write_atomic, write_png

LONGEST = ['变' * 83 + '.zip', 'a' * 251 + '.png', 'a' * 150 + '.' + 'b' * 104, 'a']


@pytest.mark.parametrize('name', LONGEST)
def test_a_name_as_long_as_the_disk_allows(tmp_path, name):
    (tmp_path / name).write_bytes(b'former')
    write_atomic(b'new', tmp_path / name)
    assert (tmp_path / name).read_bytes() == b'new' and list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_change_map_with_such_a_name(tmp_path):
    write_png(Image.fromarray(np.zeros((8, 8), np.uint8)), tmp_path / 'map' / ('变' * 83 + '.png'))
    assert [path.name for path in (tmp_path / 'map').iterdir()] == ['变' * 83 + '.png']


def test_unfinished_names_are_short_differ_and_keep_the_suffix():
    names = [*LONGEST, *('变' * 80 + f'{number}' + '变' * 40 + '.png' for number in range(9)), 'out.gpkg', 'iter_4.pth']
    paths = [unfinished_path(Path('folder', name)) for name in names]
    assert len(set(paths)) == len(names) and all(len(os.fsencode(path.name)) <= 101 for path in paths)
    assert all(path.parent == Path('folder') for path in paths)
    assert [path.suffix for path in paths[-2:]] == ['.gpkg', '.pth']


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError('bad'), OSError(errno.EIO, 'broken')])
def test_after_an_error_the_former_file_is_there_alone(tmp_path, error):
    write_atomic(b'former', tmp_path / 'file')
    with pytest.raises(error if isinstance(error, type) else type(error)), atomic_path(tmp_path / 'file') as path:
        path.write_bytes(b'half')
        raise error
    assert (tmp_path / 'file').read_bytes() == b'former' and list(tmp_path.iterdir()) == [tmp_path / 'file']


def test_two_writers_of_one_file_are_told(tmp_path):
    with (pytest.raises(FileNotFoundError, match='does another process write into this folder'),
          atomic_path(tmp_path / 'file') as path):
        path.write_bytes(b'mine')
        write_atomic(b"another's", tmp_path / 'file')
    assert (tmp_path / 'file').read_bytes() == b"another's"


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with pytest.raises(ValueError), atomic_path(tmp_path / 'data') as path:
        (path / 'A').mkdir(parents=True)
        raise ValueError
    assert not list(tmp_path.iterdir())
    with atomic_path(tmp_path / 'new' / 'data') as path:
        (path / 'A').mkdir(parents=True)
    assert [entry.name for entry in (tmp_path / 'new').rglob('*')] == ['data', 'A']


def test_the_next_run_removes_files_of_a_killed_one(tmp_path, python):
    program = f"""
import os, pathlib
from ifn_plugin.fileio import atomic_path
for name in ('file', 'folder'):
    if not os.fork():
        with atomic_path(pathlib.Path({str(tmp_path)!r}, name)) as path:
            path.mkdir() if name == 'folder' else path.write_bytes(b'half')
            os.kill(os.getpid(), {int(signal.SIGKILL)})
    os.wait()"""
    python('-c', program)
    assert len(list(tmp_path.iterdir())) == 2 and not (tmp_path / 'file').exists()
    write_atomic(b'complete', tmp_path / 'file')
    with atomic_path(tmp_path / 'folder') as path:
        path.mkdir()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['file', 'folder']


def test_a_full_disk_is_reported_and_the_former_file_stays(tmp_path):
    if not Path('/dev/full').exists():
        pytest.skip('no /dev/full, the file that is always full')
    path = tmp_path / 'iter_2.pth'
    path.write_bytes(b'former')
    with pytest.raises(OSError, match=r'disk is full: .*iter_2\.pth .*intact.*--resume') as error, \
            atomic_path(path) as unfinished:
        unfinished.symlink_to('/dev/full')
        unfinished.write_bytes(bytes(2**21))
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b'former' and list(tmp_path.iterdir()) == [path]
