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
from ifn_plugin.apis.rasters.tiles import SIDE, write_tiles
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
    tiles = write_tiles(dates, probability, unfinished)
    # a page must not be left beside tiles of another run
    (out / 'index.html').unlink(missing_ok=True)
    shutil.rmtree(out / 'tiles', ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    unfinished.rename(out / 'tiles')
    titles = [Path(strip_secrets(date)).stem or date for date in plan.sources.dates]
    about = f'{summary.changed:,} of {summary.valid:,} pixels with data changed at a threshold of {threshold:.4g}.'
    with rasterio.open(probability) as dataset:
        crs, transform = dataset.crs, dataset.transform
    place = dict(transform=list(transform)[:6], crs='', metres=0.)
    if crs is not None:
        place.update(crs=crs.to_string())
        if crs.is_projected:
            place.update(metres=math.hypot(transform.a, transform.d) * crs.linear_units_factor[1])
        if transform.b or transform.d or transform.e > 0:
            about += ' North is not at the top.'
    data = dict(place, height=tiles.height, width=tiles.width, side=SIDE, levels=tiles.levels, shrink=tiles.shrink,
                tiles=sorted(tiles.present), first=tiles.first.tolist(), last=tiles.last.tolist(),
                names=titles if titles[0] != titles[1] else ['date 1', 'date 2'],
                counts=tiles.counts.tolist(), share=summary.changed / summary.valid, threshold=threshold,
                # a step is "changed" from half a step below it
                steps=FULL, own=max(0, round(threshold * FULL - 0.5)))
    write_page(out / 'index.html', 'map.html.j2', data=data, about=about)
