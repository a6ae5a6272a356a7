"""Virtual rasters (VRT) over the tiles of a folder."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import shapely
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.transform import array_bounds

from ifn_plugin.apis.rasters.opening import open_raster
from ifn_plugin.fileio import write_atomic

# GDAL's names of numpy's types
TYPES = dict(uint8='Byte', int8='Int8', uint16='UInt16', int16='Int16', uint32='UInt32', int32='Int32', uint64='UInt64',
             int64='Int64', float32='Float32', float64='Float64')


@dataclass(frozen=True)
class Tile:
    """What a virtual raster needs to know of a tile."""

    name: str
    source: str  # as GDAL spells it
    crs: Any
    transform: Any
    height: int
    width: int
    rotated: bool
    bands: tuple[str, ...]  # their types
    nodata: tuple[float | None, ...]
    colours: tuple[str, ...]
    scales: tuple[tuple[float, float], ...]  # with offsets
    masked: bool  # by a mask of its own, or an alpha band


def describe_tile(name: str) -> Tile:
    """Read the description of a tile."""
    with open_raster(name) as dataset:
        transform = dataset.transform
        source = dataset.files[0] if '://' in name and dataset.files else name
        return Tile(
            name, source, dataset.crs, transform, dataset.height, dataset.width,
            rotated=bool(dataset.gcps[0] or transform.b or transform.d), bands=tuple(dataset.dtypes),
            nodata=tuple(dataset.nodatavals), colours=tuple(kind.name for kind in dataset.colorinterp),
            scales=tuple(zip(dataset.scales, dataset.offsets)),
            masked=any(MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums))


def find_fault(tiles: Sequence[Tile], grid_only: bool = False) -> str:
    """Say why there can be no virtual raster over tiles; return an empty string if there can.

    Args:
        tiles: The tiles.
        grid_only: Whether only their grids count, and their values may differ in type and meaning.
    """
    first = tiles[0]
    for tile in tiles:
        if tile.rotated:
            return f'{tile.name} is rotated or has only ground control points. Fix: warp it by gdalwarp'
        size, other = ((each.transform.a, each.transform.e) for each in (first, tile))
        differences: list[tuple[str, bool, tuple[Any, Any]]] = [
            ('coordinate system', first.crs == tile.crs, (first.crs, tile.crs)),
            ('size of pixels', np.allclose(size, other, rtol=1e-6, atol=0), (size, other))]
        if not grid_only:
            for what in ('bands', 'nodata', 'colours', 'scales'):
                values = getattr(first, what), getattr(tile, what)
                differences.append((what, repr(values[0]) == repr(values[1]), values))  # NaN is unequal to itself
        for what, same, values in differences:
            if not same:
                return (f'{first.name} and {tile.name} differ in {what}: {values[0]} and {values[1]}. Fix: bring them '
                        'into one form by gdalwarp or gdal_translate, or predict one folder for each')
    return ''


def find_covered(tiles: Sequence[Tile]) -> tuple[Tile, Tile] | None:
    """Find two tiles of the same extent."""
    boxes = np.array([shapely.box(*array_bounds(tile.height, tile.width, tile.transform)) for tile in tiles])
    first, second = shapely.STRtree(boxes).query(boxes, predicate='intersects')
    shared = shapely.area(shapely.intersection(boxes[first], boxes[second]))
    same = shared > 0.9 * shapely.area(shapely.union(boxes[first], boxes[second]))
    return next(((tiles[one], tiles[other]) for one, other in zip(first[same], second[same]) if one < other), None)


def write_vrt(names: Iterable[str], out: Path, tags: Mapping[str, str] | None = None) -> None:
    """Write a virtual raster over tiles, which keeps their bands, colours, descriptions and nodata.

    Args:
        names: The tiles, anything that rasterio opens, in one coordinate system with pixels of one size.
        out: The file, ``.vrt``; paths of files in it are relative to it.
        tags: Its tags.

    Raises:
        OSError: If the file cannot be written.
        ValueError: As for :func:`build_vrt`.
    """
    write_atomic(build_vrt(names, out, tags), out)


def build_vrt(names: Iterable[str], out: Path, tags: Mapping[str, str] | None = None) -> bytes:
    """Return the text of the file that :func:`write_vrt` writes.

    Raises:
        ValueError: If the tiles do not fit into one raster; two are named.
    """
    tiles = [describe_tile(name) for name in names]
    fault = find_fault(tiles)
    if fault:
        raise ValueError(f'{fault}.')
    first = tiles[0].transform
    left, top = min(tile.transform.c for tile in tiles), _outermost(tiles, first.e)
    places = [((tile.transform.c - left) / first.a, (tile.transform.f - top) / first.e) for tile in tiles]
    width, height = (round(max(place[axis] + (tile.width, tile.height)[axis] for place, tile in zip(places, tiles)))
                     for axis in (0, 1))
    root = ElementTree.Element('VRTDataset', rasterXSize=str(width), rasterYSize=str(height))
    if tiles[0].crs is not None:
        _add(root, 'SRS', tiles[0].crs.to_wkt())
    if tags:
        metadata = _add(root, 'Metadata')
        for key, value in tags.items():
            _add(metadata, 'MDI', value, key=key)
    _add(root, 'GeoTransform', ', '.join(map(repr, (left, first.a, 0., top, 0., first.e))))
    with open_raster(tiles[0].name) as dataset:
        alpha = ColorInterp.alpha in dataset.colorinterp
        for number, dtype in enumerate(dataset.dtypes, 1):
            band = _add_band(root, dataset, number)
            for tile, place in zip(tiles, places):
                _add_source(band, tile, place, number, dtype, out)
    if tiles[0].nodata[0] is None and not alpha:
        mask = ElementTree.SubElement(_add(root, 'MaskBand'), 'VRTRasterBand', dataType='Byte')
        for tile, place in zip(tiles, places):
            _add_source(mask, tile, place, 'mask,1', 'uint8', out)
    return ElementTree.tostring(root)


def _outermost(tiles: Sequence[Tile], step: float) -> float:
    return float((max if step < 0 else min)(tile.transform.f for tile in tiles))


def _add_band(root: Any, dataset: Any, number: int) -> Any:
    """Add a band that is described as that of the first tile."""
    band = ElementTree.SubElement(root, 'VRTRasterBand', dataType=TYPES[dataset.dtypes[number - 1]], band=str(number))
    if dataset.descriptions[number - 1]:
        _add(band, 'Description', dataset.descriptions[number - 1])
    if dataset.nodatavals[number - 1] is not None:
        _add(band, 'NoDataValue', repr(dataset.nodatavals[number - 1]))
    kind = dataset.colorinterp[number - 1]
    _add(band, 'ColorInterp', kind.name.capitalize())
    if kind == ColorInterp.palette:
        table = _add(band, 'ColorTable')
        entries = dataset.colormap(number)
        for entry in range(max(entries) + 1):
            colour = zip(('c1', 'c2', 'c3', 'c4'), map(str, entries.get(entry, (0, 0, 0, 255))))
            ElementTree.SubElement(table, 'Entry', dict(colour))
    _add(band, 'Offset', repr(dataset.offsets[number - 1]))
    _add(band, 'Scale', repr(dataset.scales[number - 1]))
    return band


def _add_source(band: Any, tile: Tile, place: tuple[float, float], number: int | str, dtype: str, out: Path) -> None:
    # pixels without data do not cover those of other tiles; GDAL prefers a mask to nodata, but here only without NODATA
    hidden = None
    if tile.masked:
        hidden = ('UseMaskBand', 'true') if isinstance(number, int) else ('NODATA', '0')
    elif isinstance(number, int) and tile.nodata[number - 1] is not None:
        hidden = 'NODATA', repr(tile.nodata[number - 1])
    source = _add(band, 'ComplexSource' if hidden else 'SimpleSource')
    path = Path(tile.name)
    local = path.exists()
    # the folders without links, which the system would follow before each ..
    relative = os.path.relpath(path.parent.resolve() / path.name, out.parent.resolve()) if local else tile.source
    _add(source, 'SourceFilename', relative, relativeToVRT=str(int(local)))
    _add(source, 'SourceBand', str(number))
    size = dict(xSize=str(tile.width), ySize=str(tile.height))
    # lets GDAL open a tile when it is read first
    _add(source, 'SourceProperties', RasterXSize=size['xSize'], RasterYSize=size['ySize'], DataType=TYPES[dtype])
    _add(source, 'SrcRect', xOff='0', yOff='0', **size)
    _add(source, 'DstRect', xOff=repr(round(place[0], 6)), yOff=repr(round(place[1], 6)), **size)
    if hidden:
        _add(source, *hidden)


def _add(parent: Any, tag: str, text: str | None = None, **attributes: str) -> Any:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
