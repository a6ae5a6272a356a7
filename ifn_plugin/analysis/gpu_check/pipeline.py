"""Measurement of training with its data pipeline: the wait of a step for data, and the workers it needs."""

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ifn_plugin.analysis.benchmark import Case, Subject
from ifn_plugin.analysis.benchmark.resources import seconds
from ifn_plugin.analysis.gpu_check.results import attempt
from ifn_plugin.analysis.gpu_check.scale import Scale
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.datasets.packing import pack
from ifn_plugin.utils.configurations import find_config

CONFIGS = {'PNG': 'ifn_mmseg_256x256_40k_levircd.py', 'packed': 'ifn_256x256_40k_levircd-packed.py'}


def workers_needed(step: float, sample: float, batch: int) -> int:
    """Return the number of workers that load a batch in the time of a step.

    Args:
        step: Seconds of a training step.
        sample: Seconds that one worker takes to load a sample.
        batch: Samples in a batch.
    """
    return math.ceil(sample * batch / step)


def measure_pipeline(scale: Scale, out: Path) -> Iterator[dict[str, Any]]:
    """Train on a drawn data set, as PNG and packed, with the configuration's workers.

    Args:
        scale: Sizes of the data set and the training.
        out: Not used.

    Yields:
        For each format, iterations/s, the share of the time spent waiting for batches, the seconds of a step without
        that wait and of a sample in one process, and the number of workers that such a step needs.
    """
    with TemporaryDirectory() as folder:
        roots = {kind: Path(folder) / kind for kind in CONFIGS}
        write_dataset(roots['PNG'], dict(train=scale.pairs), scale.side)
        pack(roots['PNG'], roots['packed'])
        for kind in CONFIGS:
            yield attempt(kind, partial(_measure, kind, roots[kind], scale))


def _measure(kind: str, root: Path, scale: Scale) -> dict[str, Any]:
    subject = Subject(find_config(CONFIGS[kind]), scale.variants[0], str(root))
    if scale.workers is not None:
        subject.cfg.train_dataloader.num_workers = scale.workers
    workers = subject.cfg.train_dataloader.num_workers
    train, batches, ahead = subject.feed(Case('end_to_end', batch=scale.batch))
    for _ in range(2 + ahead):  # compiles, and uses up what the workers have loaded ahead
        train(next(batches))
    steps, begin = [], time.perf_counter()
    for _ in range(scale.steps):
        steps.append(seconds(partial(train, next(batches))))
    total, step = time.perf_counter() - begin, sum(steps) / len(steps)
    del train, batches  # ends the workers
    subject.start(Case('data'))
    sample = subject.run()
    subject.stop()
    rate, waiting = scale.steps / total, 1 - sum(steps) / total
    needed = workers_needed(step, sample, scale.batch)
    line = (f'{kind}, {workers} workers, batch {scale.batch}: {rate:.3g} iterations/s, waiting for data {waiting:.0%} '
            f'of the time; a step takes {1000 * step:.4g} ms, a sample {1000 * sample:.4g} ms in one process, so that '
            f'{needed} workers would do')
    return dict(
        line=line, kind=kind, variant=scale.variants[0], workers=workers, batch=scale.batch, iterations_per_second=rate,
        waiting=waiting, step=step, sample=sample, workers_needed=needed)
