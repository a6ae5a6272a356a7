"""Short training with the demonstration's recipe, and its loss curve."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ifn_plugin.analysis.demonstration import configure
from ifn_plugin.analysis.gpu_check.scale import Scale
from ifn_plugin.analysis.logs import read_log
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.fileio import write_atomic
from ifn_plugin.visualization.charts import Chart


def train_shortly(scale: Scale, out: Path) -> Iterator[dict[str, Any]]:
    """Train from random weights on drawn pairs, accelerated but not compiled, and test.

    Args:
        scale: Numbers of pairs and iterations.
        out: The JSON file of the check; the curve is written to its folder as ``NAME-loss.svg``.

    Yields:
        The loss by iteration and the scores of the test, then the path of the chart.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / 'data', scale.counts, scale.crop)
        runner = Runner.from_cfg(_settings(scale, folder))
        begin = time.perf_counter()
        runner.train()
        seconds = time.perf_counter() - begin
        scores = runner.test()
        curve = [(entry['iter'], entry['loss']) for entry in read_log(folder) if 'loss' in entry]
    yield dict(
        line=f'{runner.max_iters} iterations in {seconds:.0f} s, validations included: loss {curve[0][1]:.3g} at '
        f'first, {curve[-1][1]:.3g} at last; F1 {scores["F1"]:.1f}, IoU {scores["IoU"]:.1f} on {scale.counts["test"]} '
        'pairs',
        seconds=seconds, loss=curve, scores={name: float(value) for name, value in scores.items()})
    path = out.with_name(f'{out.stem}-loss.svg')
    chart = Chart('Training on drawn pairs', 'iteration', 'loss')
    steps, losses = zip(*curve)
    chart.line('', 0, steps, losses)
    write_atomic(chart.svg().encode(), path)
    yield dict(line=f'loss curve: {path}', chart=str(path))


def _settings(scale: Scale, folder: Path) -> Config:
    cfg = configure(folder / 'data', folder, max_iters=scale.iterations)
    cfg.custom_hooks = [dict(type='ifn_plugin.AccelerationHook', compile=False, keep_memory=False)]
    cfg.default_hooks.visualization.draw = False
    cfg.default_hooks.logger.interval = max(1, cfg.train_cfg.max_iters // 48)
    return cfg
