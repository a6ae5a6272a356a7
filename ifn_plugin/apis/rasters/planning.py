"""Plans for predicting any number of pairs of rasters."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from ifn_plugin.apis.pairs import Sources, stamp
from ifn_plugin.apis.rasters.blending import Grid, check_window
from ifn_plugin.apis.rasters.interest import AreaOfInterest, OutsideError
from ifn_plugin.apis.rasters.mosaic import Tile, describe_tile, find_covered, find_fault
from ifn_plugin.apis.rasters.opening import CACHE, list_files
from ifn_plugin.apis.rasters.pair import RasterPair
from ifn_plugin.apis.rasters.stretch import compare_types, find_limits, value_types
from ifn_plugin.datasets import LoadBands, LoadPair
from ifn_plugin.fileio.bands import Scale

# Number of pairs whose values give the stretch of all
SAMPLED = 64
LARGEST_CACHE = 512 * 2**20


@dataclass(frozen=True)
class RasterPlan:
    """All that is known of pairs of rasters before a network is built.

    Attributes:
        sources: The pairs.
        settings: Arguments of :class:`ifn_plugin.apis.rasters.RasterPair` for all of them.
        shapes: Height and width of each pair, by its name.
        records: Name under which each pair is recorded as finished, which changes with its files.
        window: Height and width of the windows in pixels.
        fault: Why there cannot be a virtual raster over all; an empty string if there can.
        interest: Gives the area of interest of a pair; ``None`` for everywhere.
    """

    sources: Sources
    settings: dict[str, Any]
    shapes: dict[str, tuple[int, int]]
    records: dict[str, str]
    window: int
    fault: str = ''
    interest: Callable[[RasterPair], AreaOfInterest] | None = None

    @property
    def windows(self) -> int:
        """The number of windows."""
        return sum(len(self.grid(name)) for name in self.shapes)

    @property
    def cache(self) -> int:
        """GDAL's cache in bytes: of rasters on servers, it holds a row of windows, whose lower part is needed again."""
        if all(Path(path).exists() for pair in self.sources.pairs.values() for path in pair):
            return CACHE
        # both dates, in 16 bits
        bands = self.settings['bands']
        pixel = 4 * (3 if bands is None else len(bands))
        row = pixel * (self.window + 512) * max(width for _, width in self.shapes.values())
        return min(max(CACHE, row), LARGEST_CACHE)

    def grid(self, name: str) -> Grid:
        """Return the windows of a pair."""
        return Grid(*self.shapes[name], self.window, self.window // 4)

    def open(self, name: str) -> RasterPair:
        """Open a pair."""
        pair = RasterPair(*self.sources.pairs[name], report=False, **self.settings)
        if self.interest is not None:
            pair.interest = self.interest(pair)
        return pair


def find_settings(sources: Sources,
                  loader: LoadPair,
                  bands: Sequence[int] | None = None,
                  scale: Scale | None = None,
                  align: bool = False,
                  scale2: Scale | None = None,
                  nodata: float | None = None) -> dict[str, Any]:
    """Return the arguments of :class:`ifn_plugin.apis.rasters.RasterPair` for a detector.

    Args:
        sources: The pairs.
        loader: The transform that loads the detector's images; it provides the default of bands and scale.
        bands: See ``RasterPair``.
        scale: See ``RasterPair``.
        align: See ``RasterPair``.
        scale2: See ``RasterPair``.
        nodata: See ``RasterPair``.

    Raises:
        ValueError: If the detector takes another number of bands.
    """
    if bands is not None and len(bands) != loader.in_channels:
        raise ValueError(f'{" and ".join(sources.dates)} with --bands {" ".join(map(str, bands))}: the detector takes '
                         f'{loader.in_channels} bands.')
    dtype = 'uint8'
    if isinstance(loader, LoadBands):
        bands = loader.bands if bands is None else bands
        scale, dtype = loader.scale if scale is None else scale, 'float32'
    return dict(bands=bands, scale=scale, align=align, dtype=dtype, scale2=scale2, nodata=nodata, crop=sources.crop)


def plan_rasters(sources: Sources, settings: dict[str, Any], window: int = 1024,
                 interest: Callable[[RasterPair], AreaOfInterest] | None = None) -> RasterPlan:
    """Open all pairs once, and plan their prediction.

    Args:
        sources: The pairs.
        settings: Arguments of ``RasterPair``. Without ``scale``, all pairs get the same.
        window: Height and width of the windows in pixels, a multiple of 64; they overlap by a quarter.
        interest: See :class:`RasterPlan`. Pairs outside are left out.

    Raises:
        FileNotFoundError: If a file is missing.
        OutsideError: If all pairs lie outside the area of interest.
        ValueError: As for ``RasterPair``, also if rasters of different pairs differ in the type of their values, or if
            ``window`` is not a positive multiple of 64.
    """
    check_window(window)
    shapes: dict[str, tuple[int, int]] = {}
    kinds, outside = [], None
    # without a scale, the values of all pairs are looked at later
    unknown = settings['scale'] is None and settings['scale2'] is None
    known = settings | dict(scale=(0, 1)) if unknown else settings
    for number, (name, paths) in enumerate(sources.pairs.items()):
        with RasterPair(*paths, report=number == 0, **known) as pair:
            try:
                pair.interest = None if interest is None else interest(pair)
                shapes[name] = pair.height, pair.width
                kinds += value_types(pair)
            except OutsideError as error:
                outside = error
    if not shapes and outside is not None:
        raise outside
    sources = replace(sources, pairs={name: sources.pairs[name] for name in shapes})
    if settings['scale'] is None and compare_types(kinds) != 'uint8':
        settings = settings | _common_scale(sources, settings)
    fault = ''
    if sources.title is not None:
        tiles = [describe_tile(date1) for date1, _ in sources.pairs.values()]
        fault = find_fault(tiles, grid_only=True) or _find_hidden(sources, tiles)
    # names may be as long as the disk allows, so the stamp is a folder
    records = {name: name if sources.crop else f'{stamp(chain.from_iterable(map(list_files, paths)))}/{name}'
               for name, paths in sources.pairs.items()}
    return RasterPlan(sources, settings, shapes, records, window, fault, interest)


def _find_hidden(sources: Sources, tiles: Sequence[Tile]) -> str:
    """Say that pairs show one place, as ``find_fault`` does."""
    pairs = sources.pairs.values()
    series = {date1 for date1, date2 in pairs if date1 != date2} & {date2 for _, date2 in pairs}
    covered = find_covered(tiles)
    if series:
        what = f'{min(series)} is the later raster of one pair and the earlier of another'
    elif covered:
        what = f'{covered[0].name} and {covered[1].name} show the same ground'
    else:
        return ''
    return f'{what}, so that one would hide the changes in the other. Fix: predict them into folders of their own'


def _common_scale(sources: Sources, settings: dict[str, Any]) -> dict[str, Any]:
    """Find the scale of all pairs by the values of some."""
    names = list(sources.pairs)
    with ExitStack() as stack:
        places = np.linspace(0, len(names) - 1, min(len(names), SAMPLED)).round().astype(int)
        pairs = [stack.enter_context(RasterPair(*sources.pairs[names[place]], report=False,
                                                **settings | dict(scale=(0, 1)))) for place in places]
        limits = find_limits(pairs, None, None)
    scales = [date.T.tolist() for date in limits if date is not None]
    shown = ', '.join('{:g} to {:g}'.format(*band) for band in scales[0])
    print_log(f'Percentiles 2 and 98 of the bands, {shown}, become 0 and 255. Others: --scale.', 'current')
    return dict(scale=scales[0], scale2=scales[1])
