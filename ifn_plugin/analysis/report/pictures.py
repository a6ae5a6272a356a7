"""Rows of the viewer: the pairs of all evaluations, with their kept maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ifn_plugin.analysis.report.maps import PairMap, threshold_of
from ifn_plugin.analysis.report.runs import Evaluation, pair_key
from ifn_plugin.datasets import LoadPair, find_loaders
from ifn_plugin.evaluation import LEVELS
from ifn_plugin.evaluation.kept_maps import level_index, read_map
from ifn_plugin.visualization.embedded import PairPictures
from ifn_plugin.visualization.viewer import ViewedMap, ViewedModel, ViewedPair, viewer_content


def report_viewer(evaluations: Sequence[Evaluation],
                  maps: Sequence[tuple[list[PairMap | None], str]]) -> dict[str, Any]:
    """Return the content of the viewer.

    Args:
        evaluations: The evaluations, one a column.
        maps: Their maps, from :func:`ifn_plugin.analysis.report.maps.read_maps`.
    """
    models = []
    for evaluation, (_, note) in zip(evaluations, maps):
        threshold, chosen = threshold_of(evaluation), evaluation.record['metrics'].get('threshold@val')
        models.append(ViewedModel(evaluation.name, level_index(threshold), threshold, chosen,
                                  None if chosen is None else level_index(chosen), note))
    rows: dict[tuple[Any, ...], list[tuple[dict[str, Any], PairMap | None] | None]] = {}
    for column, (evaluation, (kept, _)) in enumerate(zip(evaluations, maps)):
        for pair, found in zip(evaluation.record.get('pairs', []), kept):
            row = rows.setdefault(pair_key(pair), [None] * len(evaluations))
            row[column] = pair, found
    loaders = [_loader(evaluation) for evaluation in evaluations]
    ordered = sorted(rows.items(), key=lambda item: _badness(item[1]))
    pairs = [_row(files, cells, loaders) for (*files, _, _), cells in ordered]
    return viewer_content(models, pairs, LEVELS.tolist())


def _badness(cells: Sequence[tuple[dict[str, Any], PairMap | None] | None]) -> tuple[bool, float]:
    """Sort the worst first, and pairs without change, whose F1 is undefined, last."""
    scores = [cell[0]['F1'] for cell in cells if cell and cell[0]['counts'][0] + cell[0]['counts'][2]]
    return not scores, min(scores, default=0.)


def _loader(evaluation: Evaluation) -> LoadPair:
    cfg = evaluation.config
    return find_loaders(cfg)[0] if cfg is not None else LoadPair()


def _row(files: Sequence[Any], cells: Sequence[tuple[dict[str, Any], PairMap | None] | None],
         loaders: Sequence[LoadPair]) -> ViewedPair:
    kept = [cell[1] if cell else None for cell in cells]
    loader = next(loader for loader, cell in zip(loaders, cells) if cell)
    dates = files[:-1]
    missing = [str(file) for file in dates if not Path(str(file)).is_file()]
    note = f'Not found: {", ".join(missing)}' if missing else ''

    def read() -> PairPictures:
        stored = [None if found is None else read_map(found.path) for found in kept]
        label = next((found[1] for found in stored if found), None)
        return PairPictures(_read_dates(dates, loader), label, [found and found[0] for found in stored])

    def view(pair: dict[str, Any], found: PairMap | None) -> ViewedMap:
        if found is None:
            return ViewedMap(pair['counts'])
        objects = found.objects
        return ViewedMap(pair['counts'], found.histogram, (objects.hit, objects.missed, objects.false))

    maps = [cell and view(*cell) for cell in cells]
    return ViewedPair(Path(str(files[0])).stem, maps, read, list(map(str, files)), note)


def _read_dates(dates: Sequence[Any], loader: LoadPair) -> list[np.ndarray]:
    try:
        images = loader.transform(dict(img_path=list(map(str, dates))))['img']
    except (OSError, ValueError):  # the data set has moved; maps and numbers are still there
        return []
    return [loader.picture(image) for image in images]
