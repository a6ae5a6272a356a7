"""Prediction from files to files: pairs of images or of rasters of any size, folders and lists of them."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.pairs import stamp
from ifn_plugin.apis.pictures import predict_images
from ifn_plugin.apis.running import Run, on_first, refuse_existing
from ifn_plugin.apis.sources import find_sources
from ifn_plugin.datasets import LoadPair
from ifn_plugin.fileio import any_size, find_checksum
from ifn_plugin.fileio.bands import Scale
from ifn_plugin.utils.text import suggest
from ifn_plugin.version import __version__

if TYPE_CHECKING:
    from ifn_plugin.apis.rasters import RasterSummary

OUTPUTS = ('map', 'probability', 'panel', 'page')


@dataclass(frozen=True)
class Options:
    """Options of a prediction; those from ``bands`` on are for rasters.

    Attributes:
        outputs: Any of ``map``, ``probability``, ``panel`` and ``page``.
        overwrite: Whether to write over existing results.
        by_place: Whether rasters of folders are paired by place, and not by name.
        bands: See :class:`ifn_plugin.apis.rasters.RasterPair`.
        scale: See ``RasterPair``.
        scale2: See ``RasterPair``.
        align: See ``RasterPair``.
        nodata: See ``RasterPair``.
        window: Height and width of the windows in pixels, a multiple of 64. Defaults to 1024.
        polygons: File for the changed areas, see :func:`ifn_plugin.apis.rasters.write_polygons`.
        min_area: See ``write_polygons``.
        simplify: See ``write_polygons``.
        aoi: Vector file of the area of interest, see :class:`ifn_plugin.apis.rasters.AreaOfInterest`.
        bbox: Left, bottom, right and top of the area of interest, likewise.

    Raises:
        ValueError: If there is no such output.
    """

    outputs: Sequence[str] = ('map', )
    overwrite: bool = False
    by_place: bool = False
    bands: Sequence[int] | None = None
    scale: Scale | None = None
    scale2: Scale | None = None
    align: bool = False
    nodata: float | None = None
    window: int | None = None
    polygons: Path | None = None
    min_area: float | None = None
    simplify: float | None = None
    aoi: str | None = None
    bbox: Sequence[float] | None = None

    def __post_init__(self) -> None:
        outputs = (self.outputs, ) if isinstance(self.outputs, str) else tuple(self.outputs)
        for name in outputs:
            if name not in OUTPUTS:
                raise ValueError(f'outputs: no {name!r}.{suggest(name, OUTPUTS)} There are {", ".join(OUTPUTS)}.')
        object.__setattr__(self, 'outputs', outputs)
        if self.polygons is not None:  # or a text
            object.__setattr__(self, 'polygons', Path(self.polygons))

    def for_rasters(self) -> list[str]:
        """List the options for rasters that are set."""
        names = [field.name for field in fields(self)]
        # not by ==, since 0 is a value
        return [name for name in names[names.index('bands'):]
                if not any(getattr(self, name) is unset for unset in (None, False))]


class Prediction:
    """Prediction that is planned, with all files opened once, before the network is built.

    Args:
        date1: The earlier date: an image, anything that rasterio opens, or a folder; or a CSV file whose two columns
            name both dates.
        date2: The later date, likewise; ``None`` for a CSV file.
        out: Output folder.
        loader: The transform that loads the detector's images.
        options: Options.

    Attributes:
        sources: The pairs.

    Raises:
        FileExistsError: If a result exists, unless ``options.overwrite`` is set.
        FileNotFoundError: If a file is missing; it is named.
        ImportError: If rasterio is missing, for rasters.
        ValueError: If a file is neither an image nor a raster or does not fit the detector, two files do not fit each
            other, or options have no effect.
    """

    def __init__(self, date1: str, date2: str | None, out: Path, loader: LoadPair,
                 options: Options = Options()) -> None:
        self.out, self.options = out, options
        for name in ('min_area', 'simplify'):
            if options.polygons is None and getattr(options, name) is not None:
                raise ValueError(f'--{name.replace("_", "-")} would have no effect for {date1} and {date2} without '
                                 '--polygons FILE.')
        self.plan: Any
        self.sources, self.plan = on_first(lambda: self._plan(date1, date2, loader))
        on_first(lambda: refuse_existing(out, self._results(), options.overwrite))

    def _plan(self, date1: str, date2: str | None, loader: LoadPair) -> tuple[Any, Any]:
        sources = find_sources(date1, date2, self.out, self.options.by_place, self.options.overwrite)
        if not sources.rasters:
            self._refuse_options(sources.dates)
            return sources, None
        from ifn_plugin.apis.rasters import AreaOfInterest, find_driver
        from ifn_plugin.apis.rasters.opening import reading_environment
        from ifn_plugin.apis.rasters.planning import find_settings, plan_rasters

        options, interest = self.options, None
        if options.polygons is not None:
            find_driver(options.polygons)
        if options.aoi is not None:
            interest = partial(AreaOfInterest.read, options.aoi)
        elif options.bbox is not None:
            interest = partial(AreaOfInterest.box, options.bbox)
        settings = find_settings(sources, loader, options.bands, options.scale, options.align, options.scale2,
                                 options.nodata)
        with reading_environment():
            plan = plan_rasters(sources, settings, 1024 if options.window is None else options.window, interest)
        for what, wanted in {'file of polygons': options.polygons, 'page': 'page' in options.outputs}.items():
            if plan.fault and wanted:
                raise ValueError(f'There cannot be one {what}: {plan.fault}.')
        return plan.sources, plan

    def _refuse_options(self, dates: tuple[str, str]) -> None:
        names = [f'--{name.replace("_", "-")}' for name in self.options.for_rasters()]
        if names:
            raise ValueError(
                f'{" ".join(names)} would have no effect: it is for rasters, but {dates[0]} and {dates[1]} are treated '
                'as images, since they have no coordinates. Fix: name the rasters themselves, one pair at a time. '
                'Images are cut into windows by --cfg-options model.test_cfg.mode=slide '
                '"model.test_cfg.crop_size=(512,512)" "model.test_cfg.stride=(384,384)".')

    @property
    def pixels(self) -> int:
        """Number of pixels that the network sees at once of a pair: those of a window, or of the first image."""
        if self.plan is None:
            with suppress(OSError), any_size(), Image.open(next(iter(self.sources.pairs.values()))[0]) as image:
                return int(image.width * image.height)
            return 2**20  # an image that Pillow does not read
        grid = self.plan.grid(next(iter(self.plan.shapes)))
        return int(grid.rows.window * grid.columns.window)

    @property
    def steps(self) -> int:
        """Number of windows or images to come."""
        return len(self.sources.pairs) if self.plan is None else int(self.plan.windows)

    def execute(self, detector: ChangeDetector) -> 'float | RasterSummary':
        """Predict the changes and write them, or go on where the same prediction was broken off.

        Args:
            detector: The detector.

        Returns:
            Summary of the changes in rasters, or the fraction of changed pixels in images.

        Raises:
            FileExistsError: If a result exists, or an unfinished run with other settings, unless ``overwrite`` is set.
            OSError: If a file cannot be written; an existing one is kept.
            ValueError: If a file is damaged, or no pixel has data in both dates.
        """
        with Run(self.out, self._settings(detector), self._results(), self.options.overwrite) as run:
            if self.plan is None:
                return predict_images(detector, self.sources.pairs, run, self.out, self.options.outputs)
            return self._predict_rasters(detector, run)

    def _predict_rasters(self, detector: ChangeDetector, run: Run) -> 'RasterSummary':
        from ifn_plugin.apis.rasters import describe_run, write_polygons
        from ifn_plugin.apis.rasters.opening import reading_environment
        from ifn_plugin.apis.rasters.page import write_map_page
        from ifn_plugin.apis.rasters.tasks import join_results, predict_plan

        options, files = self.options, self._files(run.folder)
        tags = describe_run(detector, self.sources.dates, run.started)

        def join() -> 'RasterSummary':
            summary = join_results(self.plan, run, files, tags)
            if 'page' in options.outputs:
                write_map_page(self.plan, files, detector.threshold, summary)
            if options.polygons is None:
                return summary
            title = self.sources.title
            changes, probabilities = (files.raster(kind, title or next(iter(self.plan.shapes)),
                                                   '.vrt' if title else '.tif') for kind in ('map', 'probability'))
            number = write_polygons(changes, probabilities, options.polygons, options.min_area or 0.,
                                    options.simplify or 0., tags)
            return replace(summary, areas=number)

        with reading_environment(self.plan.cache):
            predict_plan(detector, self.plan, run, files, tags)
            return on_first(join)

    def _files(self, unfinished: Path) -> Any:
        from ifn_plugin.apis.rasters.tasks import RasterFiles
        return RasterFiles(self.out, tuple(self.options.outputs), unfinished, self.options.polygons)

    def _results(self) -> list[Path]:
        """List the files that are written in the end."""
        if self.plan is None:
            pictures = [kind for kind in self.options.outputs if kind != 'page']
            pages = [self.out / 'page' / 'index.html'] if 'page' in self.options.outputs else []
            return [self.out / kind / f'{name}.png' for name in self.sources.pairs for kind in pictures] + pages
        from ifn_plugin.apis.rasters.layers import holds_layer
        polygons = self.options.polygons
        results: list[Path] = self._files(self.out).results(self.plan)
        return results + ([polygons] if polygons is not None and holds_layer(polygons) else [])

    def _settings(self, detector: ChangeDetector) -> dict[str, Any]:
        """Return what the results depend on."""
        options = self.options
        settings = dict(
            version=__version__, dates=self.sources.dates, pairs=_digest(self.sources.pairs),
            # of a pair's own files, what is finished keeps the stamp
            files=stamp([*(self.sources.files if self.sources.crop else ()), *filter(None, [options.aoi])]),
            configuration=_digest(detector.cfg.to_dict()), checkpoint=find_checksum(detector.checkpoint)[:16],
            threshold=detector.threshold, precision=str(detector.dtype), compiled=detector.compiled,
            batch_size=detector.batch_size, outputs=sorted(options.outputs),
            polygons=options.polygons and options.polygons.resolve())
        if self.plan is not None:
            settings |= self.plan.settings | dict(window=self.plan.window, aoi=options.aoi, bbox=options.bbox)
        return settings


def predict_rasters(detector: ChangeDetector, date1: str | Path, date2: str | Path | None, out: str | Path,
                    **options: Any) -> 'RasterSummary':
    """Predict the changes between two rasters, or in all pairs of folders or a list, and write them with coordinates.

    Args:
        detector: The detector.
        date1: The earlier date, see :class:`Prediction`.
        date2: The later date.
        out: Output folder.
        options: See :class:`Options`.

    Returns:
        Summary of the changes.

    Raises:
        FileExistsError: As for ``Prediction``, which see for other errors.
        ValueError: If the pairs have no coordinates and are treated as images.
    """
    prediction = Prediction(str(date1), None if date2 is None else str(date2), Path(out), detector.loader,
                            Options(**options))
    if prediction.plan is None:
        raise ValueError(f'{date1} and {date2} are images without coordinates. Fix: use ChangeDetector.predict_all.')
    summary: Any = prediction.execute(detector)
    return summary


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
