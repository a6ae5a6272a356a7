"""What a prediction reads: pairs of images or of rasters, from files, folders, lists, archives and URLs."""

import warnings
from pathlib import Path

import cv2
from PIL import Image, UnidentifiedImageError

from ifn_plugin.apis.inferencer import find_pairs
from ifn_plugin.apis.pairs import Sources, name_pair, name_source, read_table
from ifn_plugin.fileio import any_size

# Formats of pictures, by rasterio's and Pillow's names
PICTURES = ('PNG', 'JPEG', 'MPO', 'BMP', 'WEBP', 'GIF', 'PNM', 'PPM')


def find_sources(date1: str, date2: str | None, out: Path, by_place: bool = False, overwrite: bool = False) -> Sources:
    """Find the pairs that one or two names stand for.

    Args:
        date1: The earlier date: an image or raster, or a folder; or a CSV file whose two columns name both dates.
        date2: The later date, likewise; ``None`` for a CSV file.
        out: Folder of the results, in which a virtual raster over the later date is written to pair rasters by place.
        by_place: Whether rasters are paired by place, and not by name.
        overwrite: Whether the virtual raster may replace another file.

    Raises:
        FileExistsError: If another file is where the virtual raster is to be.
        FileNotFoundError: If something is missing; it is named.
        ValueError: If something can be opened neither as an image nor as a raster, or only one date is a folder.
    """
    if date2 is None:
        pairs = read_table(date1)
        rasters = any(are_rasters(*both) for both in pairs.values())
        return Sources((date1, date1), pairs, rasters, Path(date1).stem)
    dates = date1, date2
    title = name_pair(*dates)
    if by_place:
        from ifn_plugin.apis.rasters.folders import pair_by_place
        pairs, files = pair_by_place(*dates, out / f'{name_source(date2)}.vrt', overwrite)
        return Sources(dates, pairs, True, title, crop=True, files=files)
    folders = [_is_folder(date) for date in dates]
    if folders[0] != folders[1]:
        missing = dates[folders[0]]
        if not _exists(missing):
            raise FileNotFoundError(f'{missing}: no such folder.')
        raise ValueError(f'{date1} and {date2}: one is a folder and one is not. Fix: name two images or two folders, '
                         'or pair rasters by --pair-by place.')
    if not folders[0]:
        return Sources(dates, {title: dates}, are_rasters(*dates))
    if any(map(_holds_coordinates, dates)):
        from ifn_plugin.apis.rasters.folders import pair_by_name
        return Sources(dates, pair_by_name(*dates), True, title)
    return Sources(dates, {name: (str(path1), str(path2)) for name, (path1, path2) in find_pairs(*dates).items()},
                   False, title)


def are_rasters(date1: str, date2: str) -> bool:
    """Check whether a pair is to be processed as rasters: if either is more than an 8-bit picture without coordinates.

    Args:
        date1: The earlier image, or anything else that rasterio opens.
        date2: The later one, likewise.

    Raises:
        FileNotFoundError: If one is missing; it is named.
        ValueError: If one can be opened neither as an image nor as a raster.
    """
    found = [_is_raster(date) for date in (date1, date2)]  # of both, so that the later one is missed, too
    return any(found)


def _is_raster(name: str) -> bool:
    try:
        from rasterio.errors import NotGeoreferencedWarning

        from ifn_plugin.apis.rasters.opening import has_coordinates, open_raster
    except ImportError:
        return not _is_picture(name)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        try:
            dataset = open_raster(name)
        except ValueError as error:
            # OpenCV reads formats that GDAL may not, such as AVIF; names that are not UTF-8 end the process
            if not isinstance(error.__cause__, UnicodeError) and cv2.haveImageReader(name):
                return False
            raise
        with dataset:
            plain = dataset.driver in PICTURES and set(dataset.dtypes) == {'uint8'} and not has_coordinates(dataset)
            # in archives and on servers, only rasterio finds it
            return not (plain and Path(name).is_file())


def _is_picture(name: str) -> bool:
    """Check whether a file is a picture, as far as Pillow can tell without rasterio."""
    try:
        with any_size(), Image.open(name) as image:
            return image.format in PICTURES
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{name}: no such file or folder. URLs and files in archives need rasterio. Fix: '
                                'pip install "ifn_plugin[geo]".') from error
    except UnidentifiedImageError:
        return False


def _is_folder(name: str) -> bool:
    try:
        from ifn_plugin.apis.rasters.folders import is_folder
    except ImportError:
        return Path(name).is_dir()
    return is_folder(name)


def _exists(name: str) -> bool:
    try:
        _is_raster(name)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        pass
    return True


def _holds_coordinates(folder: str) -> bool:
    """Check whether a folder holds rasters with coordinates."""
    try:
        from rasterio.errors import NotGeoreferencedWarning

        from ifn_plugin.apis.rasters.folders import list_rasters
        from ifn_plugin.apis.rasters.opening import has_coordinates, open_raster
    except ImportError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        for path in list_rasters(folder).values():
            with open_raster(path) as dataset:
                if has_coordinates(dataset):
                    return True
    return False
