"""Tables of the scores of evaluations, in pixels and in objects."""

from collections.abc import Sequence

from ifn_plugin.analysis.report.maps import PairMap
from ifn_plugin.analysis.report.runs import Evaluation
from ifn_plugin.analysis.tables import Table
from ifn_plugin.evaluation.objects import ObjectCounts

SCORES = ('Precision', 'Recall', 'F1', 'IoU', 'OA', 'Kappa')
THRESHOLDS = (('as configured', ''), ('0.5', '@0.5'), ("validation's best", '@val'))


def score_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return the table of scores at each of the thresholds."""
    rows = []
    for evaluation in evaluations:
        metrics = evaluation.record['metrics']
        for title, suffix in THRESHOLDS:
            if f'F1{suffix}' not in metrics:
                continue
            chosen = f'{title} ({metrics["threshold@val"]:.6g})' if suffix == '@val' else title
            rows.append([evaluation.name, evaluation.split, chosen, *(f'{metrics[score + suffix]:.2f}' for score in
                                                                      SCORES),
                         f'{metrics["AP"]:.2f}' if 'AP' in metrics else ''])  # AP is the same at all thresholds
    return Table('', ['evaluation', 'split', 'threshold', *SCORES, 'AP'], rows)


def object_table(evaluations: Sequence[Evaluation], maps: Sequence[Sequence[PairMap | None]]) -> Table:
    """Return the table of objects hit, missed and false, of evaluations whose maps are all there."""
    rows = []
    for evaluation, kept in zip(evaluations, maps):
        known = [found for found in kept if found]
        if known and len(known) == len(kept):
            total = sum((found.objects for found in known), ObjectCounts())
            recall = total.hit / max(1, total.hit + total.missed)
            precision = total.right / max(1, total.right + total.false)
            f1 = 2 * precision * recall / max(precision + recall, 1e-9)
            rows.append([evaluation.name, *(f'{count:,}' for count in (
                total.hit + total.missed, total.hit, total.missed, total.right + total.false, total.false)),
                *(f'{100 * score:.2f}' for score in (precision, recall, f1))])
    header = ['evaluation', 'in the labels', 'hit', 'missed', 'in the maps', 'false', 'Precision', 'Recall', 'F1']
    return Table('Objects', header, rows)
