"""Packed data sets: uncompressed arrays from which training reads only the crop.

Every image becomes an ``.npy`` file in the same layout, which training maps into memory: nothing is decoded, and pixels
outside a crop are not read. Packing also validates the images and converts labels to 0, 1 and -1 (ignored). Each split
gets a file ``SHA256SUMS`` in the format of the command ``sha256sum``.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image
from rich.progress import track

from ifn_plugin.datasets.levircd import LAYOUT, LEVIRCDDataset, walk
from ifn_plugin.datasets.settings import find_loaders, find_remote, list_dataset_settings
from ifn_plugin.datasets.transforms.bands import LoadBands
from ifn_plugin.datasets.transforms.loading import LoadChangeLabel, LoadPair
from ifn_plugin.fileio import any_size, write_atomic
from ifn_plugin.utils.configurations import is_type, registry_of

FOLDERS = tuple(LAYOUT.values())

SUMS = 'SHA256SUMS'
# of this file, which names files whatever their names are encoded in
ENCODING: dict[str, Any] = dict(encoding='utf-8', errors='surrogateescape')

GIB = 2**30


def _list_splits(folder: Path, kinds: Sequence[str] = FOLDERS) -> list[Path]:
    """List the splits at or below a folder: folders that contain all three subfolders."""
    parents = sorted(path.parent for path in walk(folder) if path.name == kinds[0] and path.is_dir())
    return [split for split in parents if all((split / kind).is_dir() for kind in kinds)]


def find_splits(folder: Path, kinds: Sequence[str] = FOLDERS) -> list[Path]:
    """Find the splits at or below a folder.

    Args:
        folder: The folder.
        kinds: Names of the subfolders of a split, for both dates and the labels.

    Returns:
        The splits, relative to the folder.

    Raises:
        FileNotFoundError: If there is none, or one lacks a subfolder.
    """
    splits = [split.relative_to(folder) for split in _list_splits(folder, kinds)]
    if not splits:
        raise FileNotFoundError(f'{folder}: no folder contains {kinds[0]}, {kinds[1]} and {kinds[2]}. Fix: name other '
                                'folders with --folders.')
    for parent in sorted({path.parent for path in walk(folder) if path.name in kinds and path.is_dir()}):
        lacking = [kind for kind in kinds if not (parent / kind).is_dir()]
        if lacking and not any(parent.is_relative_to(folder / split) for split in splits):
            raise FileNotFoundError(f'{parent / lacking[0]}: no such folder, so this split would be left out. Fix: add '
                                    'it, or pack the other splits one by one.')
    return splits


def _packed_files(split: Path) -> list[Path]:
    """List the packed files of a split, including those in linked folders."""
    return [path for kind in FOLDERS for path in walk(split / kind) if path.suffix == '.npy']


@dataclass
class _Split:
    """A split to pack: its name as a relative path, its files, and the transform that reads its labels."""

    name: Path
    dataset: LEVIRCDDataset
    load_label: LoadChangeLabel

    @property
    def labels(self) -> str:
        """A comment for the command sha256sum."""
        return f'# labels: changed={self.load_label.changed}, threshold={self.load_label.threshold}'

    def pairs(self) -> dict[str, list[Path]]:
        """List the three files of each pair by its name."""
        infos = [self.dataset.get_data_info(index) for index in range(len(self.dataset))]
        files = [[Path(path) for path in (*info['img_path'], info['seg_map_path'])] for info in infos]
        names = [trio[0].relative_to(self.dataset.data_prefix['img_path_from']).as_posix() for trio in files]
        suffix = self.dataset.suffixes['img_path_from']
        return {name[:-len(suffix or trio[0].suffix)]: trio for name, trio in zip(names, files)}


def _folder_splits(src: Path, load_label: LoadChangeLabel, kinds: Sequence[str],
                   suffixes: Sequence[str | None]) -> Iterator[_Split]:
    for name in find_splits(src, kinds):
        dataset = LEVIRCDDataset(data_root=str(src / name), data_prefix=dict(zip(LAYOUT, kinds)),
                                 **dict(zip(('img_suffix_from', 'img_suffix_to', 'seg_map_suffix'), suffixes)))
        yield _Split(name, dataset, load_label)


def _configured_splits(cfg: Config) -> Iterator[_Split]:
    registry = registry_of(cfg, DATASETS)
    for split in ('train', 'val', 'test'):
        for number, settings in enumerate(list_dataset_settings(cfg, split), 1):
            load_pair, load_label = find_loaders(cfg, settings)
            if isinstance(load_pair, LoadBands):
                raise ValueError(f'{cfg.filename}: its {split} split is loaded by LoadBands, but only images of 8 bits '
                                 'are packed. Fix: train on the files as they are.')
            remote = find_remote(settings)
            if remote is not None:
                raise ValueError(f'{cfg.filename}: the {split} split is in {remote}, but only files on disk are '
                                 'packed. Fix: copy the data set to disk.')
            names = ('data_root', 'data_prefix', 'img_suffix', 'img_suffix_from', 'img_suffix_to', 'seg_map_suffix',
                     'ann_file', 'indices')
            if is_type(settings.get('type'), registry, LEVIRCDDataset):
                dataset = registry.build({**settings, 'pipeline': []})
            else:
                dataset = LEVIRCDDataset(**{name: settings[name] for name in names if settings.get(name) is not None})
            yield _Split(Path(split if number == 1 else f'{split}-{number}'), dataset, load_label)


def _packed_size(image: Path) -> int:
    """Return the size of a packed pair in bytes, from the header of an image."""
    try:
        with any_size(), Image.open(image) as header:
            return 7 * header.width * header.height
    except Exception:  # an invalid header can raise anything; the loader gives the better message
        date1, _ = LoadPair().transform(dict(img_path=[str(image), str(image)]))['img']
        return 7 * date1.shape[0] * date1.shape[1]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, array: np.ndarray, source: Path) -> str:
    """Write an array atomically with its source's modification time, and return the file's checksum."""
    file = io.BytesIO()
    np.save(file, array)
    write_atomic(file.getvalue(), path)
    modified = source.stat().st_mtime_ns
    os.utime(path, ns=(modified, modified))
    return hashlib.sha256(file.getvalue()).hexdigest()


def read_sums(split: Path) -> dict[str, str]:
    """Read the checksums of a packed split by the files' path relative to it."""
    path = split / SUMS
    lines = path.read_text(**ENCODING).splitlines() if path.is_file() else []
    # a killed run may have left an incomplete line
    return {line[66:]: line[:64] for line in lines if line[64:66] == '  ' and line.endswith('.npy')}


def _tidy_sums(split: Path, labels: str, without: Collection[str] = ()) -> None:
    """Rewrite the checksums, sorted and without duplicates, below a line on the settings of the labels."""
    lines = [f'{digest}  {name}\n' for name, digest in sorted(read_sums(split).items()) if name not in without]
    write_atomic(''.join([f'{labels}\n', *lines]).encode(**ENCODING), split / SUMS)


def _is_packed(files: list[Path], packed: list[Path], names: list[str], sums: dict[str, str]) -> bool:
    # not newer but equal: a corrected source may be older than the packed file; file systems store times to 10 ms
    return all(name in sums and new.is_file() and abs(new.stat().st_mtime - old.stat().st_mtime) < 0.01
               for old, new, name in zip(files, packed, names))


def _check_labels(split: Path, labels: str) -> None:
    """Reject labels with other settings than those already packed."""
    path = split / SUMS
    first = path.read_text(**ENCODING).partition('\n')[0] if path.is_file() else labels
    if first.startswith('#') and first != labels:
        raise ValueError(f'{split} was packed with other settings ({first[2:]}; now {labels[2:]}). Fix: use the same '
                         'settings, or another folder.')


def pack(src: Path | Config,
         dst: Path,
         changed: int | None = None,
         threshold: int | None = None,
         folders: Sequence[str] = FOLDERS,
         suffixes: Sequence[str | None] = (None, ) * 3) -> int:
    """Pack all splits of a folder, or the data sets of a configuration into ``train``, ``val`` and ``test``.

    Args:
        src: Folder in LEVIR-CD's layout; or a configuration, which says all that follows but ``dst``.
        dst: Output folder; existing pairs are kept unless the source's modification time has changed.
        changed: As for :class:`ifn_plugin.datasets.transforms.loading.LoadChangeLabel`.
        threshold: As for :class:`ifn_plugin.datasets.transforms.loading.LoadChangeLabel`.
        folders: Names of the folders of both dates and of the labels in ``src``.
        suffixes: Suffixes of the files in them; ``None`` for PNG, JPEG, TIFF, BMP and WebP.

    Returns:
        The number of pairs written.

    Raises:
        FileNotFoundError: If there is no split, or a pair is incomplete.
        OSError: If the disk lacks space or is full; pairs packed before stay.
        ValueError: If ``dst`` is inside the source or contains it, labels were packed with other settings, an image
            cannot be read or a label has invalid values; pairs packed before stay.
    """
    load_pair = LoadPair()
    if isinstance(src, Config):
        splits = list(_configured_splits(src))
    else:
        _check_apart(dst, src)
        splits = list(_folder_splits(src, LoadChangeLabel(changed, threshold), folders, suffixes))
    for split in splits:
        for folder in split.dataset.data_prefix.values():
            _check_apart(dst, Path(folder))
    todo, strays = _plan(splits, dst)
    for path in strays:
        print(f'{path} no longer has a source, but will still be read. Fix: remove it if it is not wanted.')
    dst.mkdir(parents=True, exist_ok=True)
    _check_room(dst, [files for _, files, _ in todo])
    labels = {dst / split.name: split.labels for split, _, _ in todo}
    for folder in labels:
        folder.mkdir(parents=True, exist_ok=True)
        # so that no new line is appended to an incomplete one, and no old checksum stands for a file to be rewritten
        again = {name for split, _, names in todo if dst / split.name == folder for name in names}
        _tidy_sums(folder, labels[folder], again)
    for split, files, names in track(todo, description='Packing'):
        loaded = split.load_label.transform(load_pair.transform(dict(
            img_path=[str(files[0]), str(files[1])], seg_map_path=str(files[2]))))
        # int8 marks a packed label, of 0, 1 and -1 (ignored), as opposed to one of 0 and 255
        arrays = (*loaded['img'], loaded['gt_seg_map'].view(np.int8))
        lines = [f'{_write(dst / split.name / name, array, file)}  {name}\n'
                 for name, array, file in zip(names, arrays, files)]
        with (dst / split.name / SUMS).open('a', **ENCODING) as sums_file:
            sums_file.writelines(lines)
    for folder in labels:
        _tidy_sums(folder, labels[folder])
    return len(todo)


def _check_room(dst: Path, pairs: Sequence[list[Path]]) -> None:
    need, free = sum(_packed_size(files[0]) for files in pairs), shutil.disk_usage(dst).free
    print(f'{len(pairs)} pairs to pack: {need / GIB:.2f} GiB, {free / GIB:.2f} GiB free in {dst}', flush=True)
    if need > free:
        raise OSError(f'{dst} has {free / GIB:.2f} GiB free, but {need / GIB:.2f} GiB are needed.')


def _check_apart(dst: Path, src: Path) -> None:
    inside, around = dst.resolve().is_relative_to(src.resolve()), src.resolve().is_relative_to(dst.resolve())
    if inside or around:
        raise ValueError(f'{dst} {"is inside" if inside else "contains"} {src}. Fix: choose a folder outside of it.')


def _plan(splits: Sequence[_Split], dst: Path) -> tuple[list[tuple[_Split, list[Path], list[str]]], list[Path]]:
    """Plan the packing.

    Returns:
        The pairs to pack, each as split, three source files and three output names relative to the split; and the
        packed files without a source.

    Raises:
        ValueError: If labels were packed with other settings.
    """
    todo: list[tuple[_Split, list[Path], list[str]]] = []
    strays: list[Path] = []
    for split in splits:
        folder = dst / split.name
        _check_labels(folder, split.labels)
        sums = read_sums(folder)
        pairs = split.pairs()
        strays += [folder / name for name in sums if name.partition('/')[2][:-len('.npy')] not in pairs]
        for name, files in pairs.items():
            names = [f'{kind}/{name}.npy' for kind in FOLDERS]
            if not _is_packed(files, [folder / path for path in names], names, sums):
                todo.append((split, files, names))
    return todo, strays


def check(folder: Path) -> list[str]:
    """Verify a packed data set.

    Returns:
        One sentence for each file that is missing, damaged or not listed; empty if the data set is intact.

    Raises:
        FileNotFoundError: If there is no packed data set.
    """
    faults = []
    splits = {path.parent for path in walk(folder) if path.name == SUMS}
    splits |= {split for split in _list_splits(folder) if _packed_files(split)}
    if not splits:
        raise FileNotFoundError(f'{folder}: no {SUMS} in it or below, so nothing was packed here.')
    for split in sorted(splits):
        if not (split / SUMS).is_file():
            faults.append(f'{split / SUMS} is missing, so the files next to it cannot be checked.')
            continue
        sums = read_sums(split)
        for name, digest in track(sums.items(), description=f'Checking {split.relative_to(folder)}'):
            path = split / name
            if not path.is_file():
                faults.append(f'{path} is missing.')
            elif _digest(path) != digest:
                faults.append(f'{path} is damaged: its checksum differs.')
        present = {path.relative_to(split).as_posix() for path in _packed_files(split)}
        faults += [f'{split / name} is not in {SUMS}.' for name in sorted(present - sums.keys())]
    return faults
