"""Time and memory of training and inference, compared with the plain network in alternation in one process."""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ifn_plugin.analysis.benchmark import Case, Subject
from ifn_plugin.analysis.benchmark.resources import peak_memory
from ifn_plugin.analysis.benchmark.tables import GIB, format_times
from ifn_plugin.analysis.gpu_check.results import attempt
from ifn_plugin.analysis.gpu_check.scale import PLAIN, Scale
from ifn_plugin.utils.configurations import find_config

CONFIG = 'ifn_mmseg_256x256_40k_levircd.py'


def measure_cost(scale: Scale, out: Path) -> Iterator[dict[str, Any]]:
    """Measure each variant in alternation with the plain network.

    The peak memory of each is measured before the other is built.

    Args:
        scale: Variants, sizes and rounds.
        out: Not used.

    Yields:
        For each size and variant, the seconds per pair in each round, the plain network's in the same rounds, the ratio
        of their medians, and the peak memory of both in bytes.
    """
    cases = [Case('train', *scale.train), *(Case('inference', *sizes) for sizes in scale.inference)]
    for case in cases:
        plain, plain_memory = _start(PLAIN, case)
        plain.stop()
        for variant in scale.variants:
            name = f'{case.task} {case.size}² × {case.batch}, {variant}'
            yield attempt(name, partial(_measure, name, case, variant, scale.rounds, plain_memory))


def _measure(name: str, case: Case, variant: str, rounds: int, plain_memory: int) -> dict[str, Any]:
    subject, memory = _start(variant, case)
    other, _ = _start(PLAIN, case)
    times = [(subject.run(), other.run()) for _ in range(rounds)]
    for each in subject, other:
        each.stop()
    seconds, plain = (list(column) for column in zip(*times))
    medians = statistics.median(seconds), statistics.median(plain)
    line = (f'{name}: {format_times(seconds)} ms a pair, plain {format_times(plain)}, ratio '
            f'{medians[1] / medians[0]:.2f}; peak memory {memory / GIB:.2f} GiB, plain {plain_memory / GIB:.2f}')
    return dict(line=line, case=case._asdict(), variant=variant, seconds=seconds, plain_seconds=plain,
                ratio=medians[1] / medians[0], peak_memory=memory, plain_peak_memory=plain_memory)


def _start(variant: str, case: Case) -> tuple[Subject, int]:
    """Prepare a variant, and measure its peak memory."""
    subject = Subject(find_config(CONFIG), variant, None)
    subject.start(case)
    subject.run()
    return subject, peak_memory()
