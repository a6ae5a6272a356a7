"""Run of a benchmark from the first case to the last."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from typing import Any

from ifn_plugin.analysis.benchmark.cases import VARIANTS, Case, Entry
from ifn_plugin.analysis.benchmark.processes import Row, count, measure
from ifn_plugin.analysis.benchmark.resources import describe_machine


def run_benchmark(entries: Sequence[Entry], cases: Sequence[Case], variants: Sequence[str] = VARIANTS,
                  rounds: int = 5) -> Iterator[dict[str, Any]]:
    """Measure configurations side by side.

    Args:
        entries: The configurations. Ratios are relative to the first.
        cases: Measurements, in this order. Cases with an image size have to come first.
        variants: Variants of each configuration; a data pipeline has none.
        rounds: Number of measurements of each row.

    Yields:
        After each case, the result so far, a dictionary for JSON: ``device``, ``rounds``, ``environment``, ``counts``
        of parameters and arithmetic at the first case's size if it has one, and ``cases``.
    """
    result: dict[str, Any] = describe_machine() | dict(rounds=rounds, cases=[])
    rows: list[Row] = []
    with ExitStack() as stack:
        for variant, entry in product(variants, entries):
            rows.append(Row(entry, variant))
            stack.callback(rows[-1].close)
        if cases[0].size:
            result['counts'] = count(rows[:len(entries)], cases[0].size)
        for case in cases:
            records = measure(rows[:len(entries)] if case.is_data else rows, case, rounds)
            result['cases'].append(case._asdict() | dict(rows=records))
            yield result
