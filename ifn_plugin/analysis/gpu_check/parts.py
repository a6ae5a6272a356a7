"""Parts of the check, in the order in which they run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ifn_plugin.analysis.gpu_check.agreement import check_agreement
from ifn_plugin.analysis.gpu_check.cost import measure_cost
from ifn_plugin.analysis.gpu_check.device_tests import run_tests
from ifn_plugin.analysis.gpu_check.pipeline import measure_pipeline
from ifn_plugin.analysis.gpu_check.scale import Scale
from ifn_plugin.analysis.gpu_check.training import train_shortly


class Part(NamedTuple):
    """A part of the check.

    Attributes:
        run: Function that yields the results, each with a ``line`` to print.
        share: Weight in the division of the remaining time among the parts.
    """

    run: Callable[[Scale, Path], Iterator[dict[str, Any]]]
    share: int


PARTS = dict(
    tests=Part(run_tests, 2), agreement=Part(check_agreement, 5), cost=Part(measure_cost, 8),
    pipeline=Part(measure_pipeline, 4), training=Part(train_shortly, 3))
