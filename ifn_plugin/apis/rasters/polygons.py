"""Changed areas as polygons."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import rasterio
import shapely

from ifn_plugin.apis.rasters.areas import Area, find_areas
from ifn_plugin.apis.rasters.layers import write_layer
from ifn_plugin.apis.rasters.opening import reading_environment
from ifn_plugin.apis.rasters.writing import FULL, unfinished_folder, writing

DRIVERS = {'.gpkg': 'GPKG', '.geojson': 'GeoJSON', '.fgb': 'FlatGeobuf', '.shp': 'ESRI Shapefile',
           '.parquet': 'Parquet'}
# Number of polygons in memory
BLOCK = 10_000


def find_driver(out: Path) -> str:
    """Find GDAL's driver for a file of polygons.

    Raises:
        ImportError: If pyarrow, which ``.parquet`` needs, is missing.
        ValueError: If its suffix is not one of ``DRIVERS``.
    """
    suffix = out.suffix.lower()
    if suffix not in DRIVERS or (suffix == '.shp' and out.suffix != suffix):  # GDAL would write .shp
        *others, last = DRIVERS
        raise ValueError(f'{out}: name a file that ends in {", ".join(others)} or {last}.')
    if suffix == '.parquet':
        try:
            import pyarrow  # noqa: F401 - geopandas would import it only after the prediction
        except ImportError as error:
            raise ImportError(f'{out}: GeoParquet needs pyarrow ({error}). Fix: pip install pyarrow.') from error
    return DRIVERS[suffix]


def write_polygons(map_path: Path | str,
                   probability_path: Path | str,
                   out: Path | str,
                   min_area: float = 0.,
                   simplify: float = 0.,
                   tags: Mapping[str, str] | None = None) -> int:
    """Write the changed areas of finished rasters as polygons, in memory that does not depend on their number.

    Areas that touch at a corner are one. The columns are ``id``, ``area_m2`` (of the polygon, on the ellipsoid),
    ``mean_probability`` and ``max_probability`` (of its changed pixels), ``date1`` and ``date2`` (the sources). Without
    a coordinate system, or with a local one, areas are in squared units of the grid. A GeoPackage gets a style for QGIS
    and the tags as metadata, and keeps its layers of other names.

    Args:
        map_path: The change map: a file, or a VRT of many.
        probability_path: The probabilities, likewise.
        out: A file that ends in ``.gpkg``, ``.fgb``, ``.shp``, ``.parquet`` or ``.geojson`` (in longitude and latitude,
            as its standard says).
        min_area: Minimum area in m²; smaller areas are left out, and smaller holes closed.
        simplify: Simplification of the outlines in pixels, see :func:`ifn_plugin.apis.rasters.areas.find_areas`; 0
            keeps the outlines of the pixels.
        tags: Tags of the rasters. Defaults to those of the map.

    Returns:
        The number of polygons.

    Raises:
        ImportError: As in :func:`find_driver`.
        OSError: If the file cannot be written; an existing one is kept.
        ValueError: As in :func:`find_driver`.
    """
    out = Path(out)
    driver = find_driver(out)
    with reading_environment(), rasterio.open(map_path) as changes, rasterio.open(probability_path) as probabilities:
        tags = dict(changes.tags() if tags is None else tags)
        frames = _frames(changes, find_areas(changes, probabilities, simplify), min_area, tags, driver == 'GeoJSON')
        with writing(out), unfinished_folder(out) as folder:
            if out.exists() and driver == 'GPKG':
                shutil.copy(out, folder / out.name)  # keeps layers of other names
            number = write_layer(frames, folder / out.name, driver, tags)
            if driver == 'ESRI Shapefile':  # a former one's system, encoding and indices would be taken for this one's
                for suffix in ('.prj', '.qpj', '.cpg', '.qix', '.sbn', '.sbx', '.idm', '.ind'):
                    out.with_suffix(suffix).unlink(missing_ok=True)
            # a shapefile consists of several files, of which the one that is opened comes last
            for file in sorted(folder.iterdir(), key=lambda file: file.name == out.name):
                file.replace(out.with_name(file.name))
    return number


def _frames(changes: Any, areas: Iterator[Area], min_area: float, tags: Mapping[str, str],
            geographic: bool) -> Iterator[geopandas.GeoDataFrame]:
    """Yield the polygons of areas, in blocks; at least one block, even if it is empty."""
    crs, grid, number = changes.crs, changes.transform, 0
    # a local (engineering) system has no position on the earth
    earthly = crs is not None and pyproj.CRS(crs.to_wkt()).geodetic_crs is not None
    measure = _measure(crs if earthly else None)

    def place(points: np.ndarray) -> np.ndarray:
        return np.stack([grid.a * points[:, 0] + grid.b * points[:, 1] + grid.c,
                         grid.d * points[:, 0] + grid.e * points[:, 1] + grid.f], axis=1)

    block = list(islice(areas, BLOCK))
    while True:
        polygons = shapely.transform(np.array([area.outline() for area in block], object), place)
        if min_area:
            polygons = np.array([_close_holes(polygon, min_area, measure) for polygon in polygons], object)
        sizes = measure(polygons)
        kept = sizes >= min_area
        pixels, totals, maxima = np.array(
            [(area.pixels, area.total, area.maximum) for area in block]).reshape(-1, 3)[kept].T
        columns = dict(
            id=np.arange(1, kept.sum() + 1) + number, area_m2=sizes[kept], mean_probability=totals / pixels / FULL,
            max_probability=maxima / FULL, date1=tags.get('DATE1', ''), date2=tags.get('DATE2', ''))
        frame = geopandas.GeoDataFrame(columns, geometry=polygons[kept], crs=crs)
        yield frame.to_crs(4326) if geographic and earthly else frame
        number += len(frame)
        block = list(islice(areas, BLOCK))
        if not block:
            return


def _close_holes(polygon: Any, min_area: float, measure: Callable[[Any], np.ndarray]) -> Any:
    if polygon.geom_type == 'Polygon' and not polygon.interiors:
        return polygon
    # parts that touch at corners may enclose a hole, too
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(shapely.union_all([polygon.boundary]))))
    shapely.prepare(polygon)
    kept = shapely.intersects(polygon, shapely.point_on_surface(faces))
    kept[~kept] = measure(faces[~kept]) < min_area
    return shapely.coverage_union_all(faces[kept])


def _measure(crs: Any) -> Callable[[Any], np.ndarray]:
    """Return a function that measures polygons in m² on the ellipsoid, free of projection distortion."""
    if crs is None:
        return shapely.area
    system = pyproj.CRS(crs.to_wkt())
    geodetic: Any = system.geodetic_crs
    angles = pyproj.Transformer.from_crs(system, geodetic, always_xy=True)
    unit = math.degrees(geodetic.axis_info[0].unit_conversion_factor)  # some systems use grads
    geod: Any = system.get_geod()

    def areas(polygons: Any) -> np.ndarray:
        degrees = shapely.transform(polygons, lambda points: unit * np.stack(angles.transform(*points.T), axis=1))
        # in normal form, outlines and holes run in opposite directions, so that holes are subtracted
        return np.array([abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in shapely.normalize(degrees)])

    return areas
