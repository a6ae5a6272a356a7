"""Data sets in the layout of LEVIR-CD."""

import itertools
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from ifn_plugin.datasets.views import check_views
from ifn_plugin.registry import DATASETS

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')


def walk(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Everything below a folder, in linked folders too, which ``Path.rglob`` passes over.

    Args:
        folder: Where to begin.
        above: Devices and inodes of the folders on the way to it, not to be entered once more.
    """
    if not folder.is_dir():
        return
    status = folder.stat()
    place = status.st_dev, status.st_ino
    if place not in above:
        for path in sorted(folder.iterdir()):
            yield path
            yield from walk(path, (*above, place))


def list_images(folder: Path, suffix: str | None = None) -> dict[str, Path]:
    """The images in and below a folder, hidden ones apart.

    Args:
        folder: The folder.
        suffix: How their names end; by default all of PNG, JPEG, TIFF and BMP.

    Returns:
        The files, by their path below the folder without suffix.

    Raises:
        ValueError: If two differ in the suffix only.
    """
    below = {path.relative_to(folder).as_posix(): path for path in sorted(walk(folder)) if path.is_file()}
    return {name: below[path] for name, path in _without_suffix(below, suffix, str(folder)).items()}


def _without_suffix(paths: Iterable[str], suffix: str | None, folder: str) -> dict[str, str]:
    """Those of the paths below a folder that end so, by what is before; without hidden ones."""
    suffixes = IMAGE_SUFFIXES if suffix is None else (suffix.lower(), )
    files: dict[str, str] = {}
    for path in paths:
        hidden = any(part.startswith('.') for part in path.split('/'))
        ending = next((ending for ending in suffixes if path.lower().endswith(ending)), None)
        if ending and not hidden:
            name = path[:-len(ending)]
            if name in files:
                raise ValueError(f'{folder}/{files[name]} and {folder}/{path} have the same name: remove one of them, '
                                 'or choose by img_suffix and seg_map_suffix.')
            files[name] = path
    return files


def list_files(folder: str, suffix: str | None, backend_args: dict[str, Any] | None = None) -> dict[str, str]:
    """The images in and below a folder, on disk or wherever a file backend of mmengine finds them.

    Args:
        folder: The folder, or its address, such as ``s3://bucket/A``.
        suffix: As for :func:`list_images`.
        backend_args: mmengine's file backend; by default the one that the address is of.

    Returns:
        As :func:`list_images`; none if there is no such folder.

    Raises:
        ValueError: If the backend cannot list folders, or two files differ in the suffix only.
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
    """The pairs that a list names, one a line.

    Args:
        ann_file: The list; lists of LEVIR-CD exist with and without suffix.
        known: Names that are taken as they are.
        suffix: How the names of date 1 end, if not as those of PNG, JPEG, TIFF and BMP.
        backend_args: mmengine's file backend.

    Returns:
        The names without suffix.

    Raises:
        ValueError: If it is empty, not in UTF-8, or has other things than names in it.
    """
    try:
        # some editors put a mark before it
        lines = fileio.get(ann_file, backend_args=backend_args).decode('utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{ann_file} is not in UTF-8 ({error.reason}): save it as such.') from error
    listed = [line.strip() for line in lines if line.strip()]
    if not listed:
        raise ValueError(f'{ann_file} names no pair: write one name a line.')
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
                raise ValueError(f'{ann_file} has the line {line!r}, but a line is the name of one pair. Fix: write '
                                 f'its path below the folder of date 1 alone, with or without suffix{example}.')
    return names


def find_equal(names: Sequence[str], folders: Sequence[Any], kinds: Sequence[Mapping[str, Any]]) -> str:
    """Whether two of a pair's files are one and the same: in words, none if they never are.

    Args:
        names: The pairs.
        folders: Of both dates and the label.
        kinds: The files in each, by the pairs' names.
    """
    real = [os.path.realpath(folder) for folder in folders]
    for first, second in itertools.combinations(range(len(kinds)), 2):
        if real[first] == real[second]:
            # in one folder, of one name but for the suffix
            same = [name for name in names if Path(kinds[first][name]).name == Path(kinds[second][name]).name]
            if same:
                what = [('date 1', 'date 2', 'label')[place] for place in (first, second)]
                return (f'{len(same)} of {len(names)} pairs have one file as {what[0]} and {what[1]}, such as '
                        f'{kinds[first][same[0]]}. Fix: name different folders in data_prefix or, where they lie in '
                        'one, how their names end: img_suffix_from, img_suffix_to and seg_map_suffix.')
    return ''


def find_beyond(indices: int | Sequence[int] | None, number: int) -> str:
    """Which of a data set's ``indices``, of ``number`` pairs, are not there: in words, none if all are."""
    listed = [] if indices is None or isinstance(indices, int) else indices
    beyond = [index for index in listed if not -number <= index < number]
    return ', '.join(map(str, beyond[:5])) + (f' and {len(beyond) - 5} more' if len(beyond) > 5 else '')


@DATASETS.register_module()
class LEVIRCDDataset(BaseSegDataset):
    """Pairs of images with a change label, named alike in three folders.

    ``A`` holds date 1, ``B`` date 2, ``label`` the change maps, 0 and 255 (or 1). The suffixes of the three may differ.
    Its items are those of open-cd's data sets, so the transforms of open-cd and of ifn_plugin both take them.

    LEVIR-CD: Chen and Shi, https://doi.org/10.3390/rs12101662.

    Args:
        data_prefix: The folders below ``data_root``: ``img_path_from``, ``img_path_to`` and ``seg_map_path``, as in
            open-cd.
        img_suffix: Take the images whose names end so; by default all of PNG, JPEG, TIFF and BMP;
            ``.npy`` takes what ``ifn_plugin.tools.pack_dataset`` wrote.
        seg_map_suffix: Likewise for the labels, ``_label.png`` for instance.
        img_suffix_from: Likewise for date 1 alone, and then a pair's name is what is before: where both dates lie in
            one folder, ``_pre_disaster.png`` for instance; by default ``img_suffix``.
        img_suffix_to: Likewise for date 2.
        kwargs: ``BaseSegDataset``'s; with ``backend_args``, mmengine's file backend lists the files.

    Raises:
        FileNotFoundError: If a folder is missing or empty, or a pair is not complete; the files are named.
        ValueError: If two files of a pair are the same, ``indices`` takes pairs that are not there, ``ann_file`` has
            other things than names in it, the file backend cannot list folders, or a view of test-time augmentation
            cannot be turned back.
    """

    METAINFO = dict(classes=('unchanged', 'changed'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(self,
                 data_prefix: dict[str, str] | None = None,
                 img_suffix: str | None = None,
                 seg_map_suffix: str | None = None,
                 img_suffix_from: str | None = None,
                 img_suffix_to: str | None = None,
                 **kwargs: Any) -> None:
        prefix = dict(img_path_from='A', img_path_to='B', seg_map_path='label') | (data_prefix or {})
        self.suffixes = dict(zip(prefix, (img_suffix_from or img_suffix, img_suffix_to or img_suffix, seg_map_suffix)))
        _find_backend(str(kwargs.get('data_root') or ''), kwargs.get('backend_args'))  # which joins the paths
        super().__init__(data_prefix=prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
        check_views(self)

    def _files(self, prefix: str) -> dict[str, str]:
        """Files of a folder, by their path below it without suffix."""
        setting = f'data_root and data_prefix.{prefix}'
        folder, suffix = str(self.data_prefix[prefix]), self.suffixes[prefix]
        files = list_files(folder, suffix, self.backend_args)
        backend = _find_backend(folder, self.backend_args)
        if not files and isinstance(backend, fileio.LocalBackend) and not Path(folder).is_dir():
            raise FileNotFoundError(
                f'{folder}: no such folder. Set {setting} to where the data set lies: it needs the folders A, B and '
                'label.')
        if not files:
            suffixes = IMAGE_SUFFIXES if suffix is None else (suffix, )
            raise FileNotFoundError(f'{folder}: no image with suffix {", ".join(suffixes)}. Put the images there or '
                                    f'set {setting} to where they are.')
        return files

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the pairs, those of ``ann_file`` (one name a line) or all."""
        if self.reduce_zero_label or self.label_map:
            raise ValueError('The classes of a change label are unchanged and changed: reduce_zero_label and '
                             'metainfo.classes cannot alter them.')
        kinds = {prefix: self._files(prefix) for prefix in self.suffixes}
        date1, date2, labels = kinds.values()
        names = sorted(date1)
        if self.ann_file:
            names = read_names(self.ann_file, date1, self.suffixes['img_path_from'], self.backend_args)
        self._check_complete(names, kinds)
        equal = find_equal(names, [self.data_prefix[prefix] for prefix in kinds], list(kinds.values()))
        if equal:
            raise ValueError(equal)
        beyond = find_beyond(self._indices, len(names))
        if beyond:
            raise ValueError(f'indices takes pairs {beyond}, but {self.data_prefix["img_path_from"]} has {len(names)}, '
                             'counted from 0: change indices, or set it to None to take all.')
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
                shown = ', '.join(f'{folder}/{name}{ending}' for name in missing[:5])
                more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
                raise FileNotFoundError(f'{len(missing)} of {len(everything)} pairs are not complete. Missing: '
                                        f'{shown}{more}. Add these files, or remove their partners.')
