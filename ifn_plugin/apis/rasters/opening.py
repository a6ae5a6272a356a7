"""Opening of rasters in any form that rasterio supports, and the colours of their bands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp

from ifn_plugin.fileio import BrokenConnectionError, complete_answers, forget_answers
from ifn_plugin.utils.text import readable


class UnreachableError(ValueError):
    """Raised if a raster on a server cannot be read any more."""


class SeveralRastersError(ValueError):
    """Raised for a file or folder that holds several rasters."""


# A small cache is enough: pixels are read at most a few times, shortly after each other
CACHE = 64 * 2**20


def reading_environment(cache: int = CACHE) -> Any:
    """Return the settings of GDAL for reading window by window, with a cache of so many bytes, a context manager.

    ``GDAL_CACHEMAX`` in the environment takes precedence.
    """
    return rasterio.Env(**{} if 'GDAL_CACHEMAX' in os.environ else dict(GDAL_CACHEMAX=cache))


def open_raster(name: str) -> Any:
    """Open a raster.

    Args:
        name: Anything that ``rasterio.open`` takes: a file, also in an archive (``zip:///data/a.zip!b.tif``), a URL, or
            one raster of a file that holds several (``netcdf:a.nc:b``).

    Returns:
        The open data set of rasterio.

    Raises:
        FileNotFoundError: If nothing of this name exists, or it cannot be reached.
        SeveralRastersError: If it holds several.
        ValueError: If it is not a raster.
    """
    try:
        dataset = _open(name)
    except (rasterio.errors.RasterioError, BrokenConnectionError) as error:
        kind = ValueError if Path(name).exists() else FileNotFoundError
        reason = ' '.join(str(error).split()).removeprefix(f'{name}: ')
        raise kind(f'{name} cannot be opened as an image or raster: {reason}') from error
    except UnicodeEncodeError as error:
        raise ValueError(f'{readable(name)}: this name is not in UTF-8, as GDAL needs it. Fix: rename it, for example '
                         'by convmv -f gbk -t utf8 --notest.') from error
    if not dataset.count:
        parts = dataset.subdatasets
        dataset.close()
        raise SeveralRastersError(f'{name} holds {len(parts)} rasters. Fix: name one of them, such as '
                                  f'{" or ".join(parts[:3])}; gdalbuildvrt -separate combines several into one.')
    return dataset


def _open(name: str) -> Any:
    try:
        with complete_answers():
            return rasterio.open(name)
    except BrokenConnectionError:
        forget_answers(name)
    with complete_answers():
        return rasterio.open(name)


def list_files(name: str) -> list[str]:
    """List the files of a raster: itself and, if it is a virtual one (VRT), those of the rasters that it shows."""
    if not name.lower().endswith('.vrt'):
        return [name]
    with open_raster(name) as dataset:
        return [name, *(file for shown in dataset.files if Path(shown) != Path(name) for file in list_files(shown))]


def has_coordinates(dataset: Any) -> bool:
    """Check whether a raster, opened by rasterio, has a coordinate system, control points or a grid of its own."""
    return bool(dataset.crs or dataset.gcps[0] or not dataset.transform.is_identity)


def reading(name: str, read: Callable[[], Any]) -> Any:
    """Read from a raster.

    Raises:
        UnreachableError: If it lies on a server, and the connection breaks; it is named.
        ValueError: If the raster is damaged; it is named.
    """
    try:
        with complete_answers():
            return read()
    except (rasterio.errors.RasterioError, BrokenConnectionError) as error:
        broken = isinstance(error, BrokenConnectionError)
        reason = ' '.join(str(error if broken else error.__cause__ or error).split())
        if Path(name).exists() and not broken:
            raise ValueError(f'{name} cannot be read, it seems damaged: {reason}. Fix: replace it.') from error
        raise UnreachableError(
            f'{name} cannot be read any more: {reason}. Fix: check the connection and repeat the command; '
            'GDAL_HTTP_MAX_RETRY and GDAL_HTTP_TIMEOUT in the environment say how patient GDAL is.') from error


def find_colours(dataset: Any, name: str) -> tuple[list[int], str]:
    """Find red, green and blue in a raster.

    Args:
        dataset: The raster, opened by rasterio.
        name: Its name in error messages.

    Returns:
        The three bands, counted from 1, and how they were found: by the colour interpretation of the file if it names
        all three; otherwise the first three bands other than alpha; or three times the only one, as for grey images.

    Raises:
        ValueError: If the raster has two bands, or a colour table.
    """
    kinds = dataset.colorinterp
    colours = ColorInterp.red, ColorInterp.green, ColorInterp.blue
    if all(colour in kinds for colour in colours):
        return [kinds.index(colour) + 1 for colour in colours], 'as the file says'
    if ColorInterp.palette in kinds:
        raise ValueError(f'{name} has a colour table. Fix: convert it to RGB with gdal_translate -expand rgb.')
    bands = [band for band, kind in enumerate(kinds, 1) if kind != ColorInterp.alpha]
    if len(bands) == 1:
        return bands * 3, 'the only one'
    if len(bands) < 3:
        raise ValueError(f'{name} has {len(bands)} bands, but red, green and blue are needed. Fix: choose three with '
                         'bands (--bands); a band may be repeated.')
    return bands[:3], 'the first ones: the file does not say which these are'
