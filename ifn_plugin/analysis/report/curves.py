"""Charts of training, validation and thresholds of runs."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ifn_plugin.analysis.report.runs import Run
from ifn_plugin.visualization import chart
from ifn_plugin.visualization.charts import VALIDATION, style_of


def training_charts(runs: Sequence[Run]) -> Iterator[str]:
    """Yield charts of losses and validation scores over the iterations."""
    trained = [run for run in runs if run.training]
    if trained:
        yield chart('Loss, all levels', 'iteration', 'loss', [
            (run.name, [entry['iter'] for entry in run.training], _smooth([entry['loss'] for entry in run.training]),
             style_of(number)) for number, run in enumerate(trained)])
    validated = [run for run in runs if run.validations]
    for score, title in VALIDATION.items():
        shown = [run for run in validated if score in run.validations[-1]]
        if shown:
            yield chart(title, 'iteration', '%', [
                (run.name, [entry['step'] for entry in run.validations if score in entry],
                 [entry[score] for entry in run.validations if score in entry],
                 style_of(number, dots=True)) for number, run in enumerate(shown)])
    for run in trained:
        levels = _level_losses(run)
        if levels:
            iterations = [entry['iter'] for entry in run.training]
            yield chart(f'{run.name}: loss of each level, coarse to fine', 'iteration', 'loss', [
                (f'level {number}', iterations, _smooth(values), style_of(number - 1))
                for number, values in levels.items()])


def _level_losses(run: Run) -> dict[int, list[float]]:
    """Return the sum of each level's losses at each logged iteration; empty if the network has no levels."""
    numbers = sorted({int(found[1]) for key in run.training[0] if (found := re.search(r'\.level(\d+)\.', key))})
    return {number: [sum(value for key, value in entry.items() if f'.level{number}.' in key)
                     for entry in run.training] for number in numbers}


def threshold_charts(runs: Sequence[Run]) -> Iterator[str]:
    """Yield charts of precision over recall, and of F1 over the threshold."""
    curves: list[Any] = []
    for number, run in enumerate(runs):
        if 'curve' in run.record:
            curve = {name: np.asarray(values, float) for name, values in run.record['curve'].items()}
            found = curve['hits'] + curve['false_alarms']
            changed = np.maximum(curve['hits'] + curve['misses'], 1)
            shown = found > 0
            precision = 100 * curve['hits'][shown] / found[shown]
            f1 = 200 * curve['hits'] / np.maximum(found + changed, 1)
            curves.append((run, 100 * (curve['hits'] / changed)[shown], precision, curve['thresholds'], f1,
                           style_of(number)))
    if not curves:
        return
    yield chart(
        'Precision over recall', 'recall, %', 'precision, %',
        [(f'{run.name}, AP {run.record["metrics"]["AP"]:.1f}', recall, precision, style)
         for run, recall, precision, _, _, style in curves], xlim=(0, 101), ylim=(0, 101))
    lines: list[Any] = [(run.name, thresholds, f1, style) for run, _, _, thresholds, f1, style in curves]
    for run, _, _, thresholds, f1, style in curves:
        chosen = run.record['metrics'].get('threshold@val')
        if chosen is not None:
            dot = style | dict(marker='o', markersize=6, linewidth=0)
            lines.append(('', [chosen], [np.interp(chosen, thresholds, f1)], dot))
    yield chart("F1 over the threshold (dots: validation's choice)", 'threshold', 'F1, %', lines, xlim=(0, 1))


def _smooth(values: Sequence[float], share: float = 0.03) -> np.ndarray:
    """Smooth by a moving average, whose window is shorter at the ends."""
    width = max(1, round(share * len(values)))
    ones, array = np.ones(width), np.asarray(values, float)
    smooth: np.ndarray = np.convolve(array, ones, 'same') / np.convolve(np.ones_like(array), ones, 'same')
    return smooth
