"""Areas of interest: the part of a raster that is predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio.features
import shapely
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds
from rasterio.windows import transform as window_transform


class OutsideError(ValueError):
    """Raised if a raster lies outside the area of interest."""


class AreaOfInterest:
    """Part of a raster: the pixels whose centre lies in given shapes.

    Args:
        shapes: The shapes, in any coordinate system; without one, in that of the raster.
        grid: What has the ``crs``, ``transform``, ``height`` and ``width`` of a raster, such as a ``RasterPair``.
        name: Name of the shapes in error messages.

    Raises:
        OutsideError: If the shapes do not meet the raster.
        ValueError: If the raster has no coordinate system to which they could be transformed.
    """

    def __init__(self, shapes: geopandas.GeoSeries, grid: Any, name: str = 'The area of interest') -> None:
        shapes = shapes[~(shapes.isna() | shapes.is_empty)]
        if shapes.crs is not None and shapes.crs != grid.crs:
            if grid.crs is None:
                raise ValueError(f'{name} is in {shapes.crs.name}, but the raster has no coordinate system. Fix: '
                                 'assign one by gdal_edit.py -a_srs, or name the area by --bbox in pixels.')
            # straight sides may be curved in the other system
            extent = np.ptp(shapes.total_bounds.reshape(2, 2), axis=0).max() if len(shapes) else 1
            own = shapes.segmentize(extent / 100 or 1)
            shapes = own.to_crs(grid.crs.to_wkt())
            # far from the raster, its system has no coordinates, or those of other places
            back = shapes.to_crs(own.crs).get_coordinates()
            if not np.allclose(back, own.get_coordinates(), rtol=0, atol=extent / 1000):
                shapes = _near(own, grid).to_crs(grid.crs.to_wkt())
        self.shapes = shapes.to_numpy()
        self.transform = grid.transform
        self._tree = shapely.STRtree(self.shapes)
        corners = [grid.transform @ corner for corner in
                   ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))]
        if not len(self._tree.query(shapely.Polygon(corners), predicate='intersects')):
            bounds = [f'{value:.10g}' for value in np.ravel([np.min(corners, axis=0), np.max(corners, axis=0)])]
            own = [f'{value:.10g}' for value in shapes.total_bounds]
            raise OutsideError(f'{name} ({", ".join(own)} in the system of the raster: left, bottom, right, top) does '
                               f'not meet the raster ({", ".join(bounds)}). Fix: check its coordinates and their '
                               'system.')

    @classmethod
    def read(cls, path: str | Path, grid: Any) -> 'AreaOfInterest':
        """Read the shapes from any file that geopandas opens.

        Raises:
            ValueError: If it cannot be read, or as for the class.
        """
        try:
            shapes = geopandas.read_file(path).geometry
        except Exception as error:  # pyogrio has its own errors, and geopandas raises others for tables without shapes
            raise ValueError(f'{path} cannot be read as an area of interest: {error}. Fix: name a vector file, such as '
                             'GeoPackage, GeoJSON or shapefile.') from error
        return cls(shapes, grid, str(path))

    @classmethod
    def box(cls, bounds: Sequence[float], grid: Any) -> 'AreaOfInterest':
        """Take a box: left, bottom, right and top in the coordinates of the raster.

        Raises:
            ValueError: If it is empty, or as for the class.
        """
        left, bottom, right, top = bounds
        if left >= right or bottom >= top:
            raise ValueError(f'The box {" ".join(f"{value:g}" for value in bounds)} is empty. Fix: give LEFT BOTTOM '
                             'RIGHT TOP, LEFT less than RIGHT and BOTTOM less than TOP.')
        return cls(geopandas.GeoSeries([shapely.box(*bounds)]), grid, 'The box')

    def mask(self, window: Any) -> np.ndarray:
        """Return which pixels of rasterio's window lie in the area, (h, w), bool."""
        shape, transform = (int(window.height), int(window.width)), window_transform(window, self.transform)
        corners = shapely.Polygon([transform @ corner for corner in
                                   ((0, 0), (shape[1], 0), (shape[1], shape[0]), (0, shape[0]))])
        near = self.shapes[self._tree.query(corners, predicate='intersects')]
        if not len(near):
            return np.zeros(shape, bool)
        mask: np.ndarray = rasterio.features.geometry_mask(near, shape, transform, invert=True)
        return mask


def _near(shapes: geopandas.GeoSeries, grid: Any) -> geopandas.GeoSeries:
    """Cut off what is farther from a raster than its own size, unless the raster lies across the antimeridian."""
    bounds = array_bounds(grid.height, grid.width, grid.transform)
    left, bottom, right, top = transform_bounds(grid.crs, shapes.crs.to_wkt(), *bounds)
    if not left < right:
        return shapes
    width, height = right - left, top - bottom
    return shapes.clip_by_rect(left - width, bottom - height, right + width, top + height)
