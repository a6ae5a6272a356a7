"""Charts of training, validation and thresholds."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ifn_plugin.analysis.report.runs import Evaluation, Run
from ifn_plugin.visualization.charts import VALIDATION, Chart


def training_charts(runs: Sequence[Run]) -> Iterator[Chart]:
    """Yield charts of losses and validation scores over the iterations."""
    trained = [(number, run) for number, run in enumerate(runs) if run.training]
    if trained:
        chart = Chart('Loss, all levels', 'iteration', 'loss')
        for number, run in trained:
            chart.line(run.name, number, [entry['iter'] for entry in run.training],
                       _smooth([entry['loss'] for entry in run.training]))
        yield chart
    for score, title in VALIDATION.items():
        chart = Chart(title, 'iteration', '%')
        for number, run in enumerate(runs):
            known = [entry for entry in run.validations if score in entry]
            if known:
                chart.line(run.name, number, [entry['step'] for entry in known], [entry[score] for entry in known],
                           dots=True)
        if chart.lines:
            yield chart
    for _, run in trained:
        levels = _level_losses(run)
        if levels:
            chart = Chart(f'{run.name}: loss of each level, coarse to fine', 'iteration', 'loss')
            for level, values in levels.items():
                chart.line(f'level {level}', level - 1, [entry['iter'] for entry in run.training], _smooth(values))
            yield chart


def _level_losses(run: Run) -> dict[int, list[float]]:
    """Return the sum of each level's losses at each logged iteration; empty if the network has no levels."""
    numbers = sorted({int(found[1]) for key in run.training[0] if (found := re.search(r'\.level(\d+)\.', key))})
    return {number: [sum(value for key, value in entry.items() if f'.level{number}.' in key)
                     for entry in run.training] for number in numbers}


def threshold_charts(evaluations: Sequence[Evaluation]) -> Iterator[Chart]:
    """Yield charts of precision over recall, and of F1 over the threshold."""
    precisions = Chart('Precision over recall', 'recall, %', 'precision, %', xlim=(0, 101), ylim=(0, 101))
    scores = Chart('F1 over the threshold', 'threshold', 'F1, %', xlim=(0, 1))
    grid = np.linspace(0, 1, 201)
    for number, evaluation in enumerate(evaluations):
        if 'curve' in evaluation.record:
            curve = {name: np.asarray(values, float) for name, values in evaluation.record['curve'].items()}
            found = curve['tp'] + curve['fp']
            changed = np.maximum(curve['tp'] + curve['fn'], 1)
            shown = found > 0
            # at the same recalls and thresholds for all, so that hovering compares them
            recall, precision = (values[shown][::-1] for values in (100 * curve['tp'] / changed,
                                                                    100 * curve['tp'] / np.maximum(found, 1)))
            if len(recall):
                places = 100 * grid[(100 * grid >= recall[0]) & (100 * grid <= recall[-1])]
                precisions.line(f'{evaluation.name}, AP {evaluation.record["metrics"]["AP"]:.1f}', number, places,
                                np.interp(places, recall, precision))
            f1 = 200 * curve['tp'] / np.maximum(found + changed, 1)
            scores.line(evaluation.name, number, grid[1:-1], np.interp(grid[1:-1], curve['thresholds'], f1))
    if scores.lines:
        yield from (precisions, scores)


def _smooth(values: Sequence[float]) -> np.ndarray:
    """Smooth by a moving average, whose window is shorter at the ends."""
    width = max(1, round(0.03 * len(values)))
    ones, array = np.ones(width), np.asarray(values, float)
    smooth: np.ndarray = np.convolve(array, ones, 'same') / np.convolve(np.ones_like(array), ones, 'same')
    return smooth
