"""Scores of a comparison as tables and curves."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from ifn_plugin.analysis.tables import Table
from ifn_plugin.visualization import chart
from ifn_plugin.visualization.charts import VALIDATION, style_of

CURVES = ('F1@val', 'AP')
SCORES = ('F1@val', 'Precision@val', 'Recall@val', 'IoU@val', 'F1@0.5', 'F1', 'AP')


def score_tables(results: dict[str, list[dict[str, Any]]],
                 cost: dict[str, dict[str, str]] | None = None) -> Iterator[Table]:
    """Yield a table for each protocol of the test.

    Args:
        results: For each model, the results of its seeds.
        cost: For each model whose cost was measured, figures by column title.
    """
    cost = cost or {}
    columns = list(dict.fromkeys(column for figures in cost.values() for column in figures))
    finished = [result for runs in results.values() for result in runs]
    for protocol in dict.fromkeys(protocol for result in finished for protocol in result['metrics']):
        rows = []
        for name, runs in results.items():
            if runs:
                scores = [_spread([result['metrics'][protocol].get(score) for result in runs]) for score in SCORES]
                times = [result['time'] for result in runs if result['time'] is not None]
                rows.append([name, str(len(runs)), *scores, f'{statistics.median(times):.3f}' if times else '',
                             *(cost.get(name, {}).get(column, '') for column in columns)])
        yield Table(protocol and f'Test, {protocol}', ['model', 'seeds', *SCORES, 's an iteration', *columns], rows)


def _spread(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation of the known values, and their number if some are missing."""
    known = [value for value in values if value is not None]
    if not known:
        return ''
    mean = f'{statistics.mean(known):.2f}' + (f' ± {statistics.stdev(known):.2f}' if len(known) > 1 else '')
    return mean if len(known) == len(values) else f'{mean} ({len(known)} of {len(values)})'


def draw(results: dict[str, list[dict[str, Any]]], score: str) -> str:
    """Draw validation scores over the iterations: the mean of the seeds as a line, and their range as an area.

    Args:
        results: For each model, the results of its seeds.
        score: One of ``CURVES``.

    Returns:
        Chart as SVG; empty if nothing was validated.
    """
    lines, bands = [], []
    for number, (name, runs) in enumerate(results.items()):
        # keyed by iteration, since a resumed run may have repeated a validation
        found = [{entry['step']: entry[score] for entry in result['validations'] if score in entry} for result in runs]
        steps = sorted(set.intersection(*map(set, found))) if found else []
        if steps:
            values = [[validated[step] for validated in found] for step in steps]
            style = style_of(number, dots=True)
            lines.append((name, steps, list(map(statistics.mean, values)), style))
            bands.append((steps, list(map(min, values)), list(map(max, values)),
                          dict(color=style['color'], alpha=0.15, linewidth=0)))
    return chart(VALIDATION[score], 'iteration', '%', lines, bands) if lines else ''
