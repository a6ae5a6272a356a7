"""Data sets in the layout of LEVIR-CD."""

import itertools
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from ifn_plugin.datasets.views import check_views
from ifn_plugin.registry import DATASETS
from ifn_plugin.utils import abbreviate

# the folders below data_root, by the keys of data_prefix, as in open-cd
LAYOUT = dict(img_path_from='A', img_path_to='B', seg_map_path='label')

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.webp')


def walk(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Walk through everything below a folder, including linked folders, which ``Path.rglob`` skips.

    Args:
        folder: The folder to start from.
        above: Devices and inodes of the folders above it, which are not entered again.

    Yields:
        The paths of files and folders.
    """
    if not folder.is_dir():
        return
    status = folder.stat()
    place = status.st_dev, status.st_ino
    if place not in above:
        for path in sorted(folder.iterdir()):
            if path.name != '__MACOSX':  # what a Mac adds to archives
                yield path
                yield from walk(path, (*above, place))


def list_images(folder: Path, suffix: str | None = None) -> dict[str, Path]:
    """List the images in and below a folder, except hidden ones.

    Args:
        folder: The folder.
        suffix: Suffix of the file names; by default, those of PNG, JPEG, TIFF, BMP and WebP.

    Returns:
        The files by their path relative to the folder without suffix.

    Raises:
        ValueError: If two files differ only in the suffix.
    """
    below = {path.relative_to(folder).as_posix(): path for path in sorted(walk(folder)) if path.is_file()}
    return {name: below[path] for name, path in _without_suffix(below, suffix, str(folder)).items()}


def _without_suffix(paths: Iterable[str], suffix: str | None, folder: str) -> dict[str, str]:
    """Select the paths with a suffix, except hidden ones, and map their names without suffix to them."""
    suffixes = IMAGE_SUFFIXES if suffix is None else (suffix.lower(), )
    files: dict[str, str] = {}
    for path in paths:
        hidden = any(part.startswith('.') for part in path.split('/'))
        ending = next((ending for ending in suffixes if path.lower().endswith(ending)), None)
        if ending and not hidden:
            # some systems decompose letters with accents, so two copies of a file may have names of other characters
            name = unicodedata.normalize('NFC', path[:-len(ending)])
            if name in files:
                raise ValueError(f'{folder}/{files[name]} and {folder}/{path} have the same name. Fix: remove one of '
                                 'them, or select one suffix with img_suffix and seg_map_suffix.')
            files[name] = path
    return files


def list_files(folder: str, suffix: str | None, backend_args: dict[str, Any] | None = None) -> dict[str, str]:
    """List the images in and below a folder on disk or in another file backend of mmengine.

    Args:
        folder: The folder, or its address, such as ``s3://bucket/A``.
        suffix: As for :func:`list_images`.
        backend_args: Config of mmengine's file backend; by default, inferred from the address.

    Returns:
        As :func:`list_images`; empty if the folder does not exist.

    Raises:
        ValueError: If the backend is unknown or cannot list folders, or two files differ only in the suffix.
    """
    backend = _find_backend(folder, backend_args)
    if isinstance(backend, fileio.LocalBackend):
        return {name: str(path) for name, path in list_images(Path(folder), suffix).items()}
    below = sorted(backend.list_dir_or_file(folder, list_dir=False, recursive=True))
    return {name: backend.join_path(folder, path) for name, path in _without_suffix(below, suffix, folder).items()}


def _find_backend(folder: str, backend_args: dict[str, Any] | None) -> Any:
    try:
        backend = fileio.get_file_backend(folder, backend_args=backend_args)
    except KeyError as error:
        raise ValueError(f'{folder}: mmengine has no file backend for {error}. Fix: copy the data set to disk, or name '
                         'one in backend_args.') from error
    if not hasattr(backend, 'list_dir_or_file'):
        raise ValueError(f'{folder}: {type(backend).__name__} cannot list a folder. Fix: copy the data set to disk, or '
                         'use a file backend that has list_dir_or_file.')
    return backend


def read_names(ann_file: str | Path,
               known: Container[str],
               suffix: str | None = None,
               backend_args: dict[str, Any] | None = None) -> list[str]:
    """Read a list of pairs, one name per line.

    Args:
        ann_file: The list; LEVIR-CD's lists exist with and without suffixes.
        known: Names that are kept as they are.
        suffix: Suffix of date 1's files, if it is not one of PNG, JPEG, TIFF, BMP and WebP.
        backend_args: Config of mmengine's file backend.

    Returns:
        The names without suffix.

    Raises:
        ValueError: If the list is empty, is not UTF-8, or has lines that are not names.
    """
    try:
        # some editors prepend a byte order mark
        text = fileio.get(ann_file, backend_args=backend_args).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{ann_file} is not encoded in UTF-8 ({error.reason}). Fix: save it as UTF-8.') from error
    listed = [line.strip() for line in unicodedata.normalize('NFC', text).splitlines() if line.strip()]
    if not listed:
        raise ValueError(f'{ann_file} lists no pairs. Fix: write one name per line.')
    endings = '|'.join(map(re.escape, ((suffix, ) if suffix else ()) + IMAGE_SUFFIXES))
    ending = re.compile(f'({endings})$', re.I)
    names = [line if line in known else ending.sub('', line) for line in listed]
    for line, name in zip(listed, names):
        if name not in known:
            columns = [column for column in re.split(r'[\s,;]+', line) if column]
            parts = ending.sub('', columns[0]).replace('\\', '/').split('/')
            tails = ['/'.join(parts[first:]) for first in range(len(parts))]
            meant = next((tail for tail in tails if tail in known), None)
            if meant or sum(bool(ending.search(column)) for column in columns) > 1:
                example = f', here {meant}' if meant else ''
                raise ValueError(f'{ann_file} has the line {line!r}, but a line must be the name of one pair. Fix: '
                                 "write only its path relative to date 1's folder, with or without suffix"
                                 f'{example}.')
    return names


def find_equal(names: Sequence[str], folders: Sequence[Any], kinds: Sequence[Mapping[str, Any]]) -> str:
    """Find pairs in which two of the three files are the same.

    Args:
        names: Names of the pairs.
        folders: Folders of both dates and the label.
        kinds: The files in each folder, by name of the pair.

    Returns:
        An error message; empty if there are no such pairs.
    """
    real = [os.path.realpath(folder) for folder in folders]
    for first, second in itertools.combinations(range(len(kinds)), 2):
        if real[first] == real[second]:
            # same folder, same name without suffix
            same = [name for name in names if Path(kinds[first][name]).name == Path(kinds[second][name]).name]
            if same:
                what = [('date 1', 'date 2', 'label')[place] for place in (first, second)]
                return (f'{len(same)} of {len(names)} pairs have the same file as {what[0]} and {what[1]}, such as '
                        f'{kinds[first][same[0]]}. Fix: name different folders in data_prefix or, if they share one, '
                        'set different suffixes: img_suffix_from, img_suffix_to and seg_map_suffix.')
    return ''


def find_repeated(names: Sequence[str]) -> str:
    """List the first names that occur several times; empty if there are none."""
    return abbreviate([name for name, number in Counter(names).items() if number > 1], 5)


def check_selection(indices: int | Sequence[int] | None, number: int, folder: Any) -> str:
    """Say what is wrong with a data set's ``indices``: they select nothing, or are out of range.

    Args:
        indices: The indices, or the number of pairs to select; ``None`` for all.
        number: Number of pairs.
        folder: Folder of the pairs, for the message.

    Returns:
        An error message; empty if nothing is wrong.
    """
    if indices is None:
        return ''
    listed = [] if isinstance(indices, int) else list(indices)
    beyond = abbreviate([index for index in listed if not -number <= index < number], 5)
    if beyond:
        return (f'indices has {beyond}, but {folder} has {number} pairs, counted from 0. Fix: change it, or set it to '
                'None to use all.')
    if not (indices if isinstance(indices, int) else listed):
        return f'indices={indices} selects no pairs. Fix: change it, or set it to None to use all.'
    return ''


@DATASETS.register_module()
class LEVIRCDDataset(BaseSegDataset):
    """Data set of pairs and change labels with matching names in three folders.

    ``A`` holds date 1, ``B`` date 2, ``label`` the change maps, 0 and 255 (or 1). The suffixes of the three may differ.
    Its items have the format of open-cd's data sets, so both open-cd's and ifn_plugin's transforms accept them.

    LEVIR-CD: Chen and Shi, https://doi.org/10.3390/rs12101662.

    Args:
        data_prefix: The folders below ``data_root``: ``img_path_from``, ``img_path_to`` and ``seg_map_path``, as in
            open-cd.
        img_suffix: Suffix of the images; by default, those of PNG, JPEG, TIFF, BMP and WebP. ``.npy`` selects the
            output of ``ifn_plugin.tools.pack_dataset``.
        seg_map_suffix: Suffix of the labels, such as ``_label.png``.
        img_suffix_from: Suffix of date 1's images, such as ``_pre_disaster.png`` if both dates share a folder; a pair's
            name is the part before it. By default ``img_suffix``.
        img_suffix_to: Suffix of date 2's images, likewise.
        kwargs: Arguments of ``BaseSegDataset``; with ``backend_args``, mmengine's file backend lists the files.

    Raises:
        FileNotFoundError: If a folder is missing or empty, or a pair is incomplete; the message names the files.
        ValueError: If two files of a pair are the same, ``indices`` are out of range or none, ``ann_file`` has lines
            that are not names, the file backend cannot list folders, or a view of test-time augmentation cannot be
            undone.
    """

    METAINFO = dict(classes=('unchanged', 'changed'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(self,
                 data_prefix: dict[str, str] | None = None,
                 img_suffix: str | None = None,
                 seg_map_suffix: str | None = None,
                 img_suffix_from: str | None = None,
                 img_suffix_to: str | None = None,
                 **kwargs: Any) -> None:
        prefix = LAYOUT | (data_prefix or {})
        self.suffixes = dict(zip(prefix, (img_suffix_from or img_suffix, img_suffix_to or img_suffix, seg_map_suffix)))
        # the base class joins paths with the backend, and its error does not say what to do
        _find_backend(str(kwargs.get('data_root') or ''), kwargs.get('backend_args'))
        super().__init__(data_prefix=prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
        check_views(self)

    def _files(self, prefix: str) -> dict[str, str]:
        """List the files of a folder by their path relative to it without suffix."""
        setting = f'data_root and data_prefix.{prefix}'
        folder, suffix = str(self.data_prefix[prefix]), self.suffixes[prefix]
        files = list_files(folder, suffix, self.backend_args)
        backend = _find_backend(folder, self.backend_args)
        if not files and isinstance(backend, fileio.LocalBackend) and not Path(folder).is_dir():
            raise FileNotFoundError(
                f'{folder}: no such folder. Set {setting} to the location of the data set, which needs the folders A, '
                'B and label.')
        if not files:
            suffixes = IMAGE_SUFFIXES if suffix is None else (suffix, )
            raise FileNotFoundError(f'{folder}: no image with suffix {", ".join(suffixes)}. Put the images there or '
                                    f'set {setting} to their location.')
        return files

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the pairs: those in ``ann_file`` (one name per line), or all."""
        if self.reduce_zero_label or self.label_map:
            raise ValueError('The classes of a change label are always unchanged and changed. Fix: leave '
                             'reduce_zero_label and metainfo.classes out.')
        kinds = {prefix: self._files(prefix) for prefix in self.suffixes}
        date1, date2, labels = kinds.values()
        names = sorted(date1)
        if self.ann_file:
            names = read_names(self.ann_file, date1, self.suffixes['img_path_from'], self.backend_args)
            repeated = find_repeated(names)
            if repeated:
                print_log(f'{self.ann_file} lists these pairs several times, and so they count several times: '
                          f'{repeated}.', 'current', logging.WARNING)
        self._check_complete(names, kinds)
        equal = find_equal(names, [self.data_prefix[prefix] for prefix in kinds], list(kinds.values()))
        if equal:
            raise ValueError(equal)
        fault = check_selection(self._indices, len(names), self.data_prefix['img_path_from'])
        if fault:
            raise ValueError(fault)
        return [
            dict(
                img_path=[date1[name], date2[name]],
                seg_map_path=labels[name],
                label_map=self.label_map,
                format_seg_map='to_binary',
                reduce_zero_label=False,
                seg_fields=[]) for name in names
        ]

    def _check_complete(self, names: list[str], kinds: dict[str, dict[str, str]]) -> None:
        everything = set(names) if self.ann_file else set().union(*kinds.values())
        for prefix, files in kinds.items():
            missing = sorted(everything - files.keys())
            if missing:
                folder, ending = self.data_prefix[prefix], self.suffixes[prefix] or '.*'
                shown = abbreviate([f'{folder}/{name}{ending}' for name in missing], 5)
                raise FileNotFoundError(f'{len(missing)} of {len(everything)} pairs are incomplete. Missing: {shown}. '
                                        'Fix: add these files, or remove their counterparts.')
