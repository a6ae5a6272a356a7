"""Prediction from xarray to xarray, with rioxarray: ``pip install "ifn_plugin[xarray]"``."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import rasterio

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.pairs import Sources
from ifn_plugin.apis.rasters.blending import blended_blocks, check_window
from ifn_plugin.apis.rasters.pair import RasterPair
from ifn_plugin.apis.rasters.planning import find_settings
from ifn_plugin.apis.rasters.writing import NODATA


def predict_xarray(detector: ChangeDetector, date1: Any, date2: Any, window: int = 1024, **options: Any) -> Any:
    """Predict the changes between two arrays with coordinates.

    Args:
        detector: The detector.
        date1: The earlier date, an ``xarray.DataArray`` (band, y, x), as ``rioxarray.open_rasterio`` gives it.
        date2: The later date, likewise.
        window: Height and width of the windows in pixels, a multiple of 64; they overlap by a quarter.
        options: ``bands``, ``scale``, ``scale2``, ``align`` and ``nodata``, see ``RasterPair``.

    Returns:
        An ``xarray.Dataset`` on the grid of the earlier date: ``changed``, (y, x), uint8, 1 for changed, 0 for
        unchanged and 255 for no data in either date; and ``probability``, (y, x), float32, NaN without data.

    Raises:
        ImportError: If rioxarray is missing.
        ValueError: If the dates do not fit the detector or each other, as for ``RasterPair``, or ``window`` is not a
            positive multiple of 64.
    """
    try:
        import rioxarray  # noqa: F401 - gives arrays their attribute `rio`
        import xarray
    except ImportError as error:
        raise ImportError(f'xarray needs rioxarray ({error}). Fix: pip install "ifn_plugin[xarray]".') from error
    check_window(window)
    settings = find_settings(Sources(('date1', 'date2'), {}, True), detector.loader, **options)
    with ExitStack() as stack:
        files = [stack.enter_context(rasterio.MemoryFile(filename=f'{name}.tif')).name for name in ('date1', 'date2')]
        for file, date in zip(files, (date1, date2)):
            date.drop_encoding().rio.to_raster(file)  # its values, not the integers that they were made from
        pair = stack.enter_context(RasterPair(*files, **settings))
        probability = np.full((pair.height, pair.width), np.nan, np.float32)
        for place, block, valid in blended_blocks(detector, pair, window, window // 4):
            probability[place.toslices()] = np.where(valid, block, np.nan)
    changed = np.where(np.isnan(probability), NODATA, probability > detector.threshold).astype(np.uint8)
    others = [name for name in date1.dims if name not in (date1.rio.y_dim, date1.rio.x_dim)]
    grid = date1.isel(dict.fromkeys(others, 0), drop=True)
    found = {}
    for name, values, nodata in (('changed', changed, NODATA), ('probability', probability, np.nan)):
        # scale and units of the date are not those of the result
        array = xarray.DataArray(values, grid.coords, grid.dims)
        found[name] = array.rio.write_grid_mapping(date1.rio.grid_mapping).rio.write_nodata(nodata)
    return xarray.Dataset(found)
