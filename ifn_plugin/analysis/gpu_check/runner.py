"""Run of the check from the first part to the last."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ifn_plugin.analysis.benchmark.resources import describe_machine
from ifn_plugin.analysis.gpu_check.parts import PARTS
from ifn_plugin.analysis.gpu_check.processes import run_part
from ifn_plugin.analysis.gpu_check.scale import FULL, SMALL
from ifn_plugin.fileio import write_atomic

# Seconds below which a part is left out
LEAST = 20


def run_check(out: Path, names: Iterable[str] = tuple(PARTS), minutes: float = 10) -> bool:
    """Run parts of the check, print a line for each result at once, and write all results to a file.

    Args:
        out: The JSON file. Charts are written to its folder.
        names: Names of the parts, keys of ``PARTS``.
        minutes: Time for all parts. Each part gets its share of the remaining time, and is left out if that is too
            short.

    Returns:
        Whether no part and no measurement failed.
    """
    scale = FULL if torch.cuda.is_available() else SMALL
    result: dict[str, Any] = describe_machine() | dict(scale=scale._asdict(), parts=[])
    sizes = 'full' if scale is FULL else 'small'
    print(f'{result["device"]}, torch {torch.__version__}: {sizes} sizes, {minutes:g} minutes', flush=True)
    deadline, todo = time.monotonic() + 60 * minutes, list(names)
    while todo:
        left, shares = deadline - time.monotonic(), sum(PARTS[name].share for name in todo)
        name = todo.pop(0)
        limit = left * PARTS[name].share / shares
        record: dict[str, Any] = dict(part=name, limit=limit, results=[])
        result['parts'].append(record)
        if limit < LEAST:
            record['left_out'] = f'needs {LEAST} s, but its share of the remaining time is {limit:.0f} s'
            print(f'{name}: left out: {record["left_out"]}', flush=True)
            _write(result, out)
            continue
        begin = time.monotonic()
        try:
            for found in run_part(name, scale, out, limit):
                print(f'{name}: {found["line"]}', flush=True)
                record['results'].append(found)
                _write(result, out)
        except (RuntimeError, TimeoutError) as error:  # the other parts still run
            record['error'] = str(error)
            print(f'{name}: FAILED: {error}', flush=True)
        record['seconds'] = time.monotonic() - begin
        _write(result, out)
    return not any('error' in found for record in result['parts'] for found in (record, *record['results']))


def _write(result: dict[str, Any], out: Path) -> None:
    write_atomic(json.dumps(result, indent=1).encode(), out)
