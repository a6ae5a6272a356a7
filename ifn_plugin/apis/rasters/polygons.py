"""Changed areas as polygons."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import rasterio
import rasterio.features
import shapely
import shapely.geometry

from ifn_plugin.apis.rasters.writing import FULL, writing
from ifn_plugin.fileio import atomic_path

DRIVERS = {'.gpkg': 'GPKG', '.geojson': 'GeoJSON'}


def find_driver(out: Path) -> str:
    """Find GDAL's driver for a file of polygons.

    Raises:
        ValueError: If its suffix is neither ``.gpkg`` nor ``.geojson``.
    """
    if out.suffix.lower() not in DRIVERS:
        raise ValueError(f'{out}: name a file that ends in {" or ".join(DRIVERS)}.')
    return DRIVERS[out.suffix.lower()]


def write_polygons(map_path: Path, probability_path: Path, out: Path, min_area: float = 0.) -> int:
    """Write the changed areas of finished rasters as polygons.

    Args:
        map_path: The change map, from :func:`ifn_plugin.apis.rasters.predict_raster`.
        probability_path: The probabilities, likewise.
        out: A GeoPackage (``.gpkg``) or GeoJSON (``.geojson``, in longitude and latitude as its standard says).
        min_area: Minimum area in m²; smaller areas are left out.

    Returns:
        The number of polygons, each with ``area_m2`` and ``mean_probability``. Without a coordinate system, or with a
        local one, areas are in squared units of the grid.

    Raises:
        OSError: If the file cannot be written; an existing one is kept.
        ValueError: If the suffix of ``out`` is neither ``.gpkg`` nor ``.geojson``.
    """
    driver = find_driver(out)
    shapes, areas, means = [], [], []
    with rasterio.open(map_path) as changes, rasterio.open(probability_path) as probabilities:
        crs = changes.crs
        # a local (engineering) system has no position on the earth
        earthly = crs is not None and pyproj.CRS(crs.to_wkt()).geodetic_crs is not None
        band, measure = rasterio.band(changes, 1), _measure(crs if earthly else None)
        # without the mask, unchanged areas would become polygons, too
        for geometry, value in rasterio.features.shapes(band, mask=band, connectivity=8, transform=changes.transform):
            if value != 1:
                continue
            polygon = shapely.geometry.shape(geometry)
            area = measure(polygon)
            if area < min_area:
                continue
            # where pixels touch only at a corner, the outline touches itself: make_valid splits it
            shapes.append(shapely.make_valid(polygon))
            areas.append(area)
            means.append(_mean_probability(polygon, changes, probabilities))
    frame = geopandas.GeoDataFrame(dict(area_m2=areas, mean_probability=means), geometry=shapes, crs=crs)
    if driver == 'GeoJSON' and earthly:
        frame = frame.to_crs(4326)
    with writing(out), atomic_path(out) as unfinished:
        if out.exists() and driver == 'GPKG':
            shutil.copy(out, unfinished)  # keeps layers of other names
        frame.to_file(unfinished, driver=driver, layer=out.stem)
    return len(frame)


def _measure(crs: Any) -> Callable[[Any], float]:
    """Return a function that measures the area of a polygon in m² on the ellipsoid, free of projection distortion."""
    if crs is None:
        return lambda polygon: float(polygon.area)
    system = pyproj.CRS(crs.to_wkt())
    geodetic: Any = system.geodetic_crs
    angles = pyproj.Transformer.from_crs(system, geodetic, always_xy=True)
    unit = math.degrees(geodetic.axis_info[0].unit_conversion_factor)  # some systems use grads
    geod: Any = system.get_geod()

    def area(polygon: Any) -> float:
        degrees = shapely.transform(polygon, lambda points: unit * np.stack(angles.transform(*points.T), axis=1))
        return abs(float(geod.geometry_area_perimeter(degrees)[0]))

    return area


def _mean_probability(polygon: Any, changes: Any, probabilities: Any) -> float:
    window = rasterio.features.geometry_window(changes, [polygon])
    inside = rasterio.features.geometry_mask(
        [polygon], (window.height, window.width), changes.window_transform(window), invert=True)
    inside &= changes.read(1, window=window) == 1
    return float(probabilities.read(1, window=window)[inside].mean()) / FULL
