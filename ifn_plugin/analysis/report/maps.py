"""Maps that the tests of a report have kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ifn_plugin.analysis.report.runs import Evaluation
from ifn_plugin.evaluation.kept_maps import MAPS, count_levels, level_index, map_name, read_map
from ifn_plugin.evaluation.objects import ObjectCounts, count_objects


@dataclass
class PairMap:
    """Kept map of a pair.

    Attributes:
        path: The file.
        histogram: Number of pixels of each level, (2, 256): labelled "unchanged", and labelled "changed".
        objects: Counts of objects at the threshold of the evaluation.
        shape: Height and width.
    """

    path: Path
    histogram: np.ndarray
    objects: ObjectCounts
    shape: tuple[int, int]


def threshold_of(evaluation: Evaluation) -> float:
    """Return the detector's threshold; two classes are decided at 0.5."""
    threshold = evaluation.record.get('threshold')
    return 0.5 if threshold is None else float(threshold)


def read_maps(evaluation: Evaluation) -> tuple[list[PairMap | None], str]:
    """Read the maps of the pairs of an evaluation.

    Returns:
        The maps in the order of the record's pairs, ``None`` where there is none; and why, for the reader of the page.
    """
    pairs = evaluation.record.get('pairs', [])
    none: list[PairMap | None] = [None] * len(pairs)
    if evaluation.split != 'test':
        return none, 'This is a validation, which keeps no maps. Fix: test the checkpoint.'
    if not evaluation.content.get('maps'):
        return none, 'The test kept no maps. Fix: test again, with keep_maps=True in EvaluationHook.'
    if 'curve' not in evaluation.record:
        return none, 'The change maps do not follow from probabilities, so no maps are shown.'
    index = level_index(threshold_of(evaluation))
    found: list[PairMap | None] = []
    wrong = 0
    for pair in pairs:
        path = _find(evaluation, pair['files'])
        kept = _read(path, index) if path else None
        if kept and not _fits(kept.histogram, pair['counts'], index):
            kept, wrong = None, wrong + 1
        found.append(kept)
    missing = found.count(None)
    reasons = [f'{wrong} maps in {evaluation.folder / MAPS} are not those of the record.'] if wrong else []
    reasons += [f'{missing - wrong} of {len(pairs)} maps are missing from {evaluation.folder / MAPS}.'
                ] if missing > wrong else []
    return found, ' '.join(reasons and [*reasons, 'Fix: test again.'])


def _find(evaluation: Evaluation, names: Any) -> Path | None:
    # several metrics of one test share the maps of a protocol
    folders = (evaluation.protocol, evaluation.protocol.rpartition('/')[0])
    paths = (evaluation.folder / MAPS / folder / map_name(names) for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path, index: int) -> PairMap | None:
    try:
        levels, label = read_map(path)
    except (OSError, ValueError):
        return None
    return PairMap(path, count_levels(levels, label), count_objects(levels > index, label), levels.shape)


def _fits(histogram: np.ndarray, counts: list[int], index: int) -> bool:
    """Check that a map gives the counts of the record, as far as the steps of its levels tell."""
    tp, fp, fn, tn = counts
    if histogram.sum(1).tolist() != [fp + tn, tp + fn]:
        return False
    most, least = histogram[:, index:].sum(1), histogram[:, index + 2:].sum(1)
    return bool((least <= (fp, tp)).all() and ((fp, tp) <= most).all())
