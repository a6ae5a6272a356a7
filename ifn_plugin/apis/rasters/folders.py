"""Pairs of rasters from folders."""

import re
import unicodedata
from pathlib import Path

from ifn_plugin.apis.pairs import Pairs, list_unmatched, name_source
from ifn_plugin.apis.rasters.mosaic import build_vrt
from ifn_plugin.apis.rasters.opening import SeveralRastersError, list_files, open_raster
from ifn_plugin.datasets.levircd import IMAGE_SUFFIXES
from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils import abbreviate


def is_folder(name: str) -> bool:
    """Check whether a name is that of a folder, and not of a raster that consists of files, such as Zarr."""
    if not Path(name).is_dir():
        return False
    try:
        open_raster(name).close()
    except SeveralRastersError:
        return False
    except ValueError:
        return True
    return False


def list_rasters(folder: str) -> dict[str, str]:
    """List the rasters in and below a folder, whatever their format, except hidden ones.

    Returns:
        The rasters by their path relative to the folder without suffix, sorted.

    Raises:
        ValueError: If two differ only in the suffix, a file contains several rasters, or one with the suffix of an
            image is damaged.
    """
    beside: set[Path] = set()
    found = [path for path in _walk(Path(folder), beside) if path not in beside]
    rasters: dict[str, str] = {}
    for path in found:
        name = re.sub(r'\.[A-Za-z]\w*$', '', path.relative_to(folder).as_posix())
        name = unicodedata.normalize('NFC', name)  # as in the data set
        if name in rasters:
            raise ValueError(f'{rasters[name]} and {path} have the same name. Fix: remove one of them.')
        rasters[name] = str(path)
    return rasters


def _walk(folder: Path, beside: set[Path], above: tuple[Path, ...] = ()) -> list[Path]:
    """List the rasters in and below a folder, and add what belongs to one, such as overviews, to ``beside``."""
    rasters: list[Path] = []
    if folder.resolve() in above:
        return rasters
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.') or not path.exists():
            continue
        try:
            with open_raster(str(path)) as dataset:
                beside.update(Path(file) for file in dataset.files if Path(file) != path)
            rasters.append(path)
        except SeveralRastersError:
            raise
        except ValueError:
            if path.is_dir():
                rasters += _walk(path, beside, (*above, folder.resolve()))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                raise
    return rasters


def pair_by_name(folder1: str, folder2: str) -> Pairs:
    """Pair the rasters of two folders by name; the suffixes may differ.

    Returns:
        Both rasters of each pair, by the name of its results.

    Raises:
        FileNotFoundError: If both folders are empty, or a raster has no partner; it is named.
        ValueError: As for :func:`list_rasters`.
    """
    date1, date2 = list_rasters(folder1), list_rasters(folder2)
    if not date1 and not date2:
        raise FileNotFoundError(f'{folder1} and {folder2} hold no images or rasters.')
    lacking = list_unmatched((folder1, folder2), date1, date2)
    if lacking:
        raise FileNotFoundError(f'Rasters without a partner. Missing: {abbreviate(lacking, 5)}. Fix: add these files, '
                                'remove their partners, or, if the tiles of the dates differ, pair them by --pair-by '
                                'place.')
    return {name: (date1[name], date2[name]) for name in sorted(date1)}


def pair_by_place(date1: str, date2: str, vrt: Path, overwrite: bool = False) -> tuple[Pairs, tuple[str, ...]]:
    """Pair each raster of the earlier date with whatever of the later date lies there.

    Args:
        date1: The earlier date: a folder of rasters, or one raster.
        date2: The later one, likewise.
        vrt: The virtual raster over the later date, which is written if that is a folder.
        overwrite: Whether to write over another raster at this place.

    Returns:
        Both rasters of each pair, by the name of its results; the later one is the virtual raster, or the only one. And
        the files of all rasters.

    Raises:
        FileExistsError: If another raster is where the virtual one is to be, unless ``overwrite`` is set.
        FileNotFoundError: If a folder has no rasters.
        ValueError: As for :func:`list_rasters` and :func:`ifn_plugin.apis.rasters.mosaic.write_vrt`.
    """
    folders = [is_folder(date) for date in (date1, date2)]
    dates = [list_rasters(date) if folder else {name_source(date): date}
             for date, folder in zip((date1, date2), folders)]
    for date, rasters in zip((date1, date2), dates):
        if not rasters:
            raise FileNotFoundError(f'{date} holds no rasters.')
    later = date2
    if folders[1]:
        later, content = str(vrt), build_vrt(dates[1].values(), vrt)
        if vrt.exists() and vrt.read_bytes() != content and not overwrite:
            raise FileExistsError(f'{vrt} exists, and is not the raster over {date2} that would be written there. '
                                  'Fix: name another folder for the results, or add --overwrite.')
        write_atomic(content, vrt)
    files = (file for rasters in dates for raster in rasters.values() for file in list_files(raster))
    return {name: (raster, later) for name, raster in dates[0].items()}, tuple(files)
