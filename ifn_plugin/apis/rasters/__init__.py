"""Inference on rasters of any size, georeferenced or not, with rasterio: ``pip install "ifn_plugin[geo]"``."""

try:
    import geopandas  # noqa: F401
    import rasterio  # noqa: F401
except ImportError as error:
    raise ImportError(f'Rasters need rasterio and geopandas ({error}). Fix: pip install "ifn_plugin[geo]".') from error

from ifn_plugin.apis.rasters.arrays import predict_xarray
from ifn_plugin.apis.rasters.blending import blended_blocks
from ifn_plugin.apis.rasters.interest import AreaOfInterest
from ifn_plugin.apis.rasters.opening import open_raster
from ifn_plugin.apis.rasters.pair import RasterPair
from ifn_plugin.apis.rasters.polygons import find_driver, write_polygons
from ifn_plugin.apis.rasters.prediction import RasterSummary, predict_raster
from ifn_plugin.apis.rasters.provenance import describe_run
from ifn_plugin.apis.rasters.writing import write_cog

__all__ = ['AreaOfInterest', 'RasterPair', 'RasterSummary', 'blended_blocks', 'describe_run', 'find_driver',
           'open_raster', 'predict_raster', 'predict_xarray', 'write_cog', 'write_polygons']
