"""Prediction of any number of pairs of rasters, by any number of processes."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import dist
from mmengine.logging import print_log
from PIL import Image
from rich.progress import Progress

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.rasters.blending import Block
from ifn_plugin.apis.rasters.mosaic import write_vrt
from ifn_plugin.apis.rasters.pair import RasterPair
from ifn_plugin.apis.rasters.parts import joined_blocks, part_path, split_rows, store_part
from ifn_plugin.apis.rasters.planning import RasterPlan
from ifn_plugin.apis.rasters.prediction import NO_DATA, RasterSummary, preview_map, write_maps
from ifn_plugin.apis.rasters.provenance import strip_secrets
from ifn_plugin.apis.rasters.tiles import write_pictures
from ifn_plugin.apis.rasters.writing import STYLES
from ifn_plugin.apis.running import Run, share
from ifn_plugin.fileio import write_png
from ifn_plugin.visualization import draw_panel

# With fewer pairs for each process, rasters are shared out in parts, to keep all processes busy to the end
PAIRS_EACH = 8


@dataclass(frozen=True)
class RasterFiles:
    """Files that a run writes.

    Attributes:
        out: The folder of the results.
        outputs: Any of ``map``, ``probability``, ``panel`` and ``page``.
        unfinished: Folder for what is needed until the run is finished.
        polygons: File of the changed areas.
    """

    out: Path
    outputs: tuple[str, ...]
    unfinished: Path
    polygons: Path | None = None

    def raster(self, kind: str, name: str, suffix: str = '.tif') -> Path | None:
        """Return the path of a map or a probability; ``None`` if nothing needs it."""
        if kind in self.outputs:
            return self.out / kind / f'{name}{suffix}'
        user = dict(map='panel', probability='page')[kind]
        needed = self.polygons is not None or user in self.outputs
        return self.unfinished / kind / f'{name}{suffix}' if needed else None

    def panel(self, name: str) -> Path | None:
        """Return the path of a panel; ``None`` if it is not wanted."""
        return self.out / 'panel' / f'{name}.png' if 'panel' in self.outputs else None

    def pictures(self, name: str, suffix: str = '.tif') -> list[Path]:
        """Return the paths of both dates as pictures, from which a page is made."""
        return [self.unfinished / 'pictures' / date / f'{name}{suffix}' for date in ('date1', 'date2')]

    def results(self, plan: RasterPlan) -> list[Path]:
        """List all files of a plan but the polygons."""
        suffixes = dict(map='tif', probability='tif', panel='png')
        paths = [self.out / kind / f'{name}.{suffix}'
                 for name in plan.shapes for kind, suffix in suffixes.items() if kind in self.outputs]
        if plan.sources.title is not None and not plan.fault:
            paths += [self.out / kind / f'{plan.sources.title}.vrt' for kind in self.outputs
                      if suffixes.get(kind) == 'tif']
        return paths + ([self.out / 'page' / 'index.html'] if 'page' in self.outputs else [])


def predict_plan(detector: ChangeDetector, plan: RasterPlan, run: Run, files: RasterFiles,
                 tags: Mapping[str, str]) -> None:
    """Predict the pairs of a plan and write their maps, this process's share of them.

    Each pair belongs to one process, unless there are few: then the processes share the parts of each.

    Args:
        detector: The detector, with the same batch size in all processes.
        plan: The plan.
        run: The run, which knows what is finished.
        files: What is written.
        tags: Tags of all files.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If a file is damaged, or the only pair has no pixel with data in both dates.
    """
    unfinished = run.unfinished(plan.records.values())
    names = [name for name in plan.shapes if plan.records[name] in unfinished]
    parts = {name: split_rows(plan.grid(name), detector.batch_size) for name in names}
    processes = dist.get_world_size()
    with Progress(disable=not dist.is_main_process()) as progress:
        task = progress.add_task('Predicting', total=sum(len(plan.grid(name)) for name in names) / processes)

        def watch(blocks: Iterable[Block]) -> Iterator[Block]:
            for block in blocks:
                yield block
                progress.advance(task)

        if processes > 1 and len(names) < PAIRS_EACH * processes:
            tasks = [(name, number) for name in names if len(parts[name]) > 1 for number in range(len(parts[name]))]
            for name, number in share(tasks):
                with plan.open(name) as pair:
                    store_part(detector, pair, plan.grid(name), parts[name][number],
                               part_path(_parts(plan, run, name), number))
                progress.advance(task, len(parts[name][number]) * plan.grid(name).columns.number)
            dist.barrier()
        for name in share(names):
            folder = _parts(plan, run, name) if len(parts[name]) > 1 else None
            changes, probability = (files.raster(kind, name) for kind in ('map', 'probability'))
            with plan.open(name) as pair:
                blocks = watch(joined_blocks(detector, pair, plan.grid(name), folder))
                summary = write_maps(blocks, pair, detector.threshold, changes, probability, plan.window,
                                     {**tags, **_dates(pair)}, may_be_empty=plan.sources.title is not None)
                panel = files.panel(name)
                if panel is not None:
                    _write_panel(detector, pair, changes, panel)
                if 'page' in files.outputs and probability is not None:
                    write_pictures(pair, probability, files.pictures(name), _show(detector))
            run.finish(plan.records[name], asdict(summary))
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
    dist.barrier()


def join_results(plan: RasterPlan, run: Run, files: RasterFiles, tags: Mapping[str, str]) -> RasterSummary:
    """Write a virtual raster over the maps of all pairs, and sum up the changes, once all pairs are finished.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If no pair has a pixel with data in both dates.
    """
    summaries: list[Any] = [run.recorded(plan.records[name]) for name in plan.shapes]
    summary = RasterSummary(*(sum(each[key] for each in summaries) for key in ('changed', 'valid', 'total')))
    if not summary.valid:
        raise ValueError(f'{" and ".join(plan.sources.dates)} {NO_DATA}')
    if plan.sources.title is not None and plan.fault:
        print_log(f'No virtual raster over all results is written: {plan.fault}.', 'current')
    elif plan.sources.title is not None:
        for kind in ('map', 'probability'):
            path = files.raster(kind, plan.sources.title, '.vrt')
            if path is not None:
                write_vrt([str(files.raster(kind, name)) for name in plan.shapes], path, tags)
                shutil.copyfile(STYLES / f'{kind}.qml', path.with_suffix('.qml'))
    return summary


def _parts(plan: RasterPlan, run: Run, name: str) -> Path:
    return run.folder / 'parts' / plan.records[name]


def _dates(pair: RasterPair) -> dict[str, str]:
    return dict(zip(('DATE1', 'DATE2'), map(strip_secrets, pair.paths)))


def _show(detector: ChangeDetector) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns the bands that are read of a date into RGB."""
    return (lambda image: image) if detector.loader.bgr else detector.loader.picture


def _write_panel(detector: ChangeDetector, pair: RasterPair, changes: Any, path: Path) -> None:
    date1, date2 = map(_show(detector), pair.preview())
    write_png(Image.fromarray(draw_panel(date1, date2, preview_map(changes))), path)
