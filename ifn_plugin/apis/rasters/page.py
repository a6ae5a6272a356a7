"""A web page with a map of the changes between rasters."""

import math
import shutil
from pathlib import Path

import rasterio

from ifn_plugin.apis.rasters.mosaic import write_vrt
from ifn_plugin.apis.rasters.planning import RasterPlan
from ifn_plugin.apis.rasters.prediction import RasterSummary
from ifn_plugin.apis.rasters.provenance import strip_secrets
from ifn_plugin.apis.rasters.tasks import RasterFiles
from ifn_plugin.apis.rasters.tiles import SIDE, TileWriter
from ifn_plugin.apis.rasters.writing import FULL
from ifn_plugin.visualization import write_page


def write_map_page(plan: RasterPlan, files: RasterFiles, threshold: float, summary: RasterSummary) -> None:
    """Write ``page/index.html``, on which one swipes between both dates, under the changes at any threshold.

    It reads the tiles that are written beside it, and nothing from a network.

    Args:
        plan: The pairs, whose pictures and probabilities are written.
        files: The files of the run.
        threshold: Threshold to begin with.
        summary: Summary of the changes.

    Raises:
        OSError: If a file cannot be written.
    """
    title, names = plan.sources.title, list(plan.shapes)
    name, suffix = (names[0], '.tif') if title is None else (title, '.vrt')
    dates, probability = files.pictures(name, suffix), files.raster('probability', name, suffix)
    if title is not None:
        for target, *pictures in zip(dates, *map(files.pictures, names)):
            write_vrt(map(str, pictures), target)
    assert probability is not None  # a page needs it
    unfinished, out = files.unfinished / 'tiles', files.out / 'page'
    shutil.rmtree(unfinished, ignore_errors=True)
    tiles = TileWriter(dates, probability, unfinished).write()
    shutil.rmtree(out / 'tiles', ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    unfinished.rename(out / 'tiles')
    with rasterio.open(probability) as dataset:
        crs, transform = dataset.crs, dataset.transform
    titles = [Path(strip_secrets(date)).stem or date for date in plan.sources.dates]
    if titles[0] == titles[1]:
        titles = ['date 1', 'date 2']
    data = dict(
        height=tiles.height, width=tiles.width, side=SIDE, levels=tiles.levels, shrink=tiles.shrink,
        tiles=sorted(tiles.present), counts=tiles.counts.tolist(), steps=FULL, own=math.floor(threshold * FULL),
        threshold=threshold, share=summary.changed / summary.valid, names=titles,
        transform=list(transform)[:6], crs='' if crs is None else crs.to_string(), metres=0.)
    if crs is not None and crs.is_projected:
        data['metres'] = math.hypot(transform.a, transform.d) * crs.linear_units_factor[1]
    about = f'{summary.changed / summary.valid:.2%} of {summary.valid / 1e6:.1f} megapixels changed at {threshold:.4g}.'
    write_page(out / 'index.html', 'map.html.j2', data=data, about=about)
