"""Data sets in the layout of LEVIR-CD."""

import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS

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
    suffixes = IMAGE_SUFFIXES if suffix is None else (suffix.lower(), )
    files: dict[str, Path] = {}
    for path in sorted(walk(folder)):
        below = path.relative_to(folder)
        hidden = any(part.startswith('.') for part in below.parts)
        ending = next((ending for ending in suffixes if path.name.lower().endswith(ending)), None)
        if ending and not hidden and path.is_file():
            name = below.as_posix()[:-len(ending)]
            if name in files:
                raise ValueError(f'{files[name]} and {path} have the same name: remove one of them, or choose by '
                                 'img_suffix and seg_map_suffix.')
            files[name] = path
    return files


def read_names(ann_file: str | Path, known: Container[str]) -> list[str]:
    """The pairs that a list names, one a line.

    Args:
        ann_file: The list; lists of LEVIR-CD exist with and without suffix.
        known: Names that are taken as they are.

    Returns:
        The names without suffix.

    Raises:
        ValueError: If it is empty, or not in UTF-8.
    """
    try:
        lines = Path(ann_file).read_text(encoding='utf-8-sig').splitlines()  # some editors put a mark before it
    except UnicodeDecodeError as error:
        raise ValueError(f'{ann_file} is not in UTF-8 ({error.reason}): save it as such.') from error
    endings = '|'.join(map(re.escape, IMAGE_SUFFIXES))
    listed = [line.strip() for line in lines if line.strip()]
    if not listed:
        raise ValueError(f'{ann_file} names no pair: write one name a line.')
    return [name if name in known else re.sub(f'({endings})$', '', name, flags=re.I) for name in listed]


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
        kwargs: ``BaseSegDataset``'s.

    Raises:
        FileNotFoundError: If a folder is missing or empty, or a pair is not complete; the files are named.
        ValueError: If ``indices`` takes pairs that are not there.
    """

    METAINFO = dict(classes=('unchanged', 'changed'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(self,
                 data_prefix: dict[str, str] | None = None,
                 img_suffix: str | None = None,
                 seg_map_suffix: str | None = None,
                 **kwargs: Any) -> None:
        prefix = dict(img_path_from='A', img_path_to='B', seg_map_path='label') | (data_prefix or {})
        super().__init__(data_prefix=prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    def _files(self, prefix: str, suffix: str | None) -> dict[str, Path]:
        """Files of a folder, by their path below it without suffix."""
        setting = f'data_root and data_prefix.{prefix}'
        folder = Path(self.data_prefix[prefix])
        if not folder.is_dir():
            raise FileNotFoundError(
                f'{folder}: no such folder. Set {setting} to where the data set lies: it needs the folders A, B and '
                'label.')
        files = list_images(folder, suffix)
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
        date1 = self._files('img_path_from', self.img_suffix)
        date2 = self._files('img_path_to', self.img_suffix)
        labels = self._files('seg_map_path', self.seg_map_suffix)
        names = read_names(self.ann_file, date1) if self.ann_file else sorted(date1)
        self._check_complete(names, date1=date1, date2=date2, labels=labels)
        beyond = find_beyond(self._indices, len(names))
        if beyond:
            raise ValueError(f'indices takes pairs {beyond}, but {self.data_prefix["img_path_from"]} has {len(names)}, '
                             'counted from 0: change indices, or set it to None to take all.')
        return [
            dict(
                img_path=[str(date1[name]), str(date2[name])],
                seg_map_path=str(labels[name]),
                label_map=self.label_map,
                format_seg_map='to_binary',
                reduce_zero_label=False,
                seg_fields=[]) for name in names
        ]

    def _check_complete(self, names: list[str], **kinds: dict[str, Path]) -> None:
        prefixes = dict(date1='img_path_from', date2='img_path_to', labels='seg_map_path')
        everything = set(names) if self.ann_file else set().union(*kinds.values())
        for kind, files in kinds.items():
            missing = sorted(everything - files.keys())
            if missing:
                folder = self.data_prefix[prefixes[kind]]
                shown = ', '.join(f'{folder}/{name}.*' for name in missing[:5])
                more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
                raise FileNotFoundError(f'{len(missing)} of {len(everything)} pairs are not complete. Missing: '
                                        f'{shown}{more}. Add these files, or remove their partners.')
