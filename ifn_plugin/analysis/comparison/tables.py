"""Scores of a comparison as tables and curves."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from ifn_plugin.analysis.tables import Table
from ifn_plugin.visualization.charts import VALIDATION, Chart

CURVES = ('F1@val', 'AP')
SCORES = ('F1@val', 'Precision@val', 'Recall@val', 'IoU@val', 'F1@0.5', 'F1', 'AP')

EXPLANATION = (
    'Scores of "changed", in percent: mean and, of several seeds, standard deviation. F1 is at the threshold that the '
    "model's configuration sets, F1@0.5 at 0.5, and F1@val, like the other scores with @val, at the threshold that was "
    'best in validation. AP, average precision, needs no threshold. The best value of each column is marked.')
BANDS = 'Lines are the mean of the seeds; the shaded band reaches from the lowest to the highest seed.'


def score_tables(results: dict[str, list[dict[str, Any]]]) -> Iterator[Table]:
    """Yield a table for each protocol of the test, with the highest mean of each column marked.

    Args:
        results: For each model, the results of its seeds.
    """
    finished = [result for runs in results.values() for result in runs]
    for protocol in dict.fromkeys(protocol for result in finished for protocol in result['metrics']):
        rows, means = [], []
        for name, runs in results.items():
            if runs:
                scores = [[result['metrics'][protocol].get(score) for result in runs] for score in SCORES]
                known = [[value for value in values if value is not None] for values in scores]
                means.append([statistics.mean(values) if values else -1. for values in known])
                rows.append([name, str(len(runs)), *map(_spread, scores)])
        highest = [max(column) for column in zip(*means)]
        best = {(row, 2 + column) for row, values in enumerate(means) for column, value in enumerate(values)
                if len(means) > 1 and value == highest[column] >= 0}
        yield Table(protocol and f'Test, {protocol}', ['model', 'seeds', *SCORES], rows, best)


def time_table(results: dict[str, list[dict[str, Any]]]) -> Table:
    """Return the table of the time of training, as the runs logged it, with the shortest marked."""
    times = {name: [result['time'] for result in runs if result['time'] is not None] for name, runs in results.items()}
    medians = {name: statistics.median(values) for name, values in times.items() if values}
    shortest = min(medians.values(), default=0.)
    best = {(row, 1) for row, value in enumerate(medians.values()) if len(medians) > 1 and value == shortest}
    return Table('Time of training', ['model', 'seconds an iteration'],
                 [[name, f'{value:.3f}'] for name, value in medians.items()], best)


def _spread(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation of the known values, and their number if some are missing."""
    known = [value for value in values if value is not None]
    if not known:
        return ''
    mean = f'{statistics.mean(known):.2f}' + (f' ± {statistics.stdev(known):.2f}' if len(known) > 1 else '')
    return mean if len(known) == len(values) else f'{mean} ({len(known)} of {len(values)})'


def curves(results: dict[str, list[dict[str, Any]]], score: str) -> Chart:
    """Chart a validation score over the iterations: the mean of the seeds as a line, and their range as a band.

    Args:
        results: For each model, the results of its seeds.
        score: One of ``CURVES``.

    Returns:
        The chart, without lines if nothing was validated.
    """
    curve = Chart(VALIDATION[score], 'iteration', '%', note=BANDS)
    for number, (name, runs) in enumerate(results.items()):
        # keyed by iteration, since a resumed run may have repeated a validation
        found = [{entry['step']: entry[score] for entry in result['validations'] if score in entry} for result in runs]
        steps = sorted(set.intersection(*map(set, found))) if found else []
        if steps:
            values = [[validated[step] for validated in found] for step in steps]
            curve.line(name, number, steps, list(map(statistics.mean, values)), dots=True)
            if len(found) > 1:
                curve.band(name, number, steps, list(map(min, values)), list(map(max, values)))
    return curve
