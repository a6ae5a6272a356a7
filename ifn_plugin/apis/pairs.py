"""Pairs of images or rasters, and the names of their results."""

import csv
import os
import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ifn_plugin.utils.samples import absolute

Pairs = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Sources:
    """Pairs of images or rasters.

    Attributes:
        dates: The earlier and the later date, as they were named: files, folders, or twice a list.
        pairs: Both files of each pair, by the name of its results.
        rasters: Whether they are treated as rasters.
        title: Name of all results together; ``None`` for a single pair.
        crop: Whether the later raster of a pair extends over other pairs, too.
        files: What is read; default: the files of the pairs.
    """

    dates: tuple[str, str]
    pairs: Pairs
    rasters: bool
    title: str | None = None
    crop: bool = False
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.files:
            object.__setattr__(self, 'files', tuple(chain.from_iterable(self.pairs.values())))


def stamp(files: Iterable[str]) -> str:
    """Return eight letters that change with the sizes and the times of files, and of masks beside them."""
    stamps = []
    for file in chain.from_iterable((file, f'{file}.msk') for file in files):
        with suppress(OSError):  # what is on a server or in an archive is taken for unchanged
            status = Path(file).stat()
            stamps.append((file, status.st_size, status.st_mtime_ns))
    return f'{zlib.crc32(repr(stamps).encode(errors="surrogateescape")):08x}'


def name_pair(date1: str, date2: str) -> str:
    """Return the name of a pair's results: ``1999_2020``, or with folders ``1999_2020_site`` for files of one name."""
    names = name_source(date1), name_source(date2)
    if names[0] != names[1]:
        return _shorten('_'.join(names))
    folders = [Path(date).parent.name for date in (date1, date2)]
    return _shorten('_'.join([*folders, names[0]])) if folders[0] != folders[1] else names[0]


def _shorten(name: str) -> str:
    """Shorten a name of two sources whose own names are long: file systems allow 255 bytes, suffixes included."""
    code = os.fsencode(name)
    return name if len(code) <= 240 else f'{code[:230].decode(errors="ignore")}-{zlib.crc32(code):08x}'


def name_source(source: str) -> str:
    """Return the name of a raster: its file name without suffix, or that of the last part of a URL."""
    if Path(source).exists():
        return Path(absolute(source)).stem
    last = re.split(r'[/\\!]', source.partition('?')[0].rstrip('/\\'))[-1]
    return '_'.join(Path(part).stem for part in re.findall(r'[^":]+', last))


def list_unmatched(folders: Sequence[str | Path], date1: Collection[str], date2: Collection[str]) -> list[str]:
    """List the files that are missing in either of two folders whose files are paired by name, as ``folder/name.*``."""
    return [f'{folder}/{name}.*' for folder, files, others in zip(folders, (date1, date2), (date2, date1))
            for name in sorted(set(others) - set(files))]


def read_table(path: str) -> Pairs:
    """Read a CSV file whose two columns name the earlier and the later image or raster of each pair.

    Args:
        path: The file. Names of files are relative to its folder. It may begin with the line ``date1,date2``.

    Returns:
        Both files of each pair, by the name of its results.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line does not have two columns, the file has no pairs, or two have the same name.
    """
    table = Path(path)
    if not table.is_file():
        raise FileNotFoundError(f'{path}: no such file. Fix: name both dates, or a CSV file with two columns.')
    pairs: Pairs = {}
    try:
        with table.open(newline='', encoding='utf-8-sig') as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{path} is not a CSV file in UTF-8 ({error}). Fix: save it as one; or, for two images or '
                         'rasters, name the folder of the results too.') from error
    for number, row in enumerate(rows, 1):
        row = [name.strip() for name in row]
        if not row or (number == 1 and [name.lower() for name in row] == ['date1', 'date2']):
            continue
        if len(row) != 2 or not all(row):
            raise ValueError(f'{path}, line {number}: {",".join(row)[:100]!r} are not two columns. Fix: name the '
                             'earlier and the later image or raster of a pair in each line, and a comma between.')
        date1, date2 = (str(table.parent / name) if (table.parent / name).exists() else name for name in row)
        name = name_pair(date1, date2)
        if name in pairs:
            raise ValueError(f'{path}, line {number}: the results of {date1} and {date2} and those of '
                             f'{" and ".join(pairs[name])} would both be named {name}. Fix: remove one line, or '
                             'rename its files.')
        pairs[name] = date1, date2
    if not pairs:
        raise ValueError(f'{path} names no pairs.')
    return pairs
