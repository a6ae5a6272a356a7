"""Logs of runs, as mmengine's ``LocalVisBackend`` writes them."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_log(work_dir: Path) -> list[dict[str, Any]]:
    """Read the log entries of the runs in a work dir, in order.

    A run that was resumed or restarted replaces the entries of an earlier one from its own first iteration on.
    Truncated lines are skipped. If exactly one metric has a prefix, its scores are also returned without it.

    Returns:
        The entries. Those of training have ``loss`` and ``iter``; those of validations have ``step``, their iteration.
    """
    entries: list[dict[str, Any]] = []
    # the file is directly in the work dir where a configuration sets visualizer.save_dir
    for path in [*work_dir.glob('vis_data/scalars.json'), *sorted(work_dir.glob('*/vis_data/scalars.json'))]:
        found = _read_file(path)
        if any('loss' in entry for entry in found):
            first = min(map(_iteration, found))
            entries = [entry for entry in entries if _iteration(entry) < first]
        latest = -1
        for entry in found:
            if 'loss' in entry:
                if _iteration(entry) <= latest:  # another run logged into the same file
                    entries = [other for other in entries if _iteration(other) < _iteration(entry)]
                latest = _iteration(entry)
            entries.append(_without_prefix(entry))
    return entries


def _read_file(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a log file, and set the ``step`` of each validation to its iteration."""
    entries = []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        with suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    # epoch-based runs may log a validation by its epoch: put it at the epoch's last logged iteration
    last: dict[str, Any] = {}
    for entry in entries:
        if 'epoch' in entry and 'iter' in entry:
            last = entry
        elif last and entry.get('step') == last['epoch']:
            entry['step'] = last['iter']
    return entries


def _without_prefix(entry: dict[str, Any]) -> dict[str, Any]:
    prefixes = [name.removesuffix('F1') for name in entry if name == 'F1' or name.endswith('/F1')]
    if len(prefixes) != 1:  # with several metrics, it is unknown which one is meant
        return entry
    return entry | {name.removeprefix(prefixes[0]): value for name, value in entry.items()}


def _iteration(entry: dict[str, Any]) -> int:
    iteration: int = entry.get('iter', entry.get('step', 0))
    return iteration
