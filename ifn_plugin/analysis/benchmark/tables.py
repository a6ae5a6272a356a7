"""Files and tables of a benchmark's results."""

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ifn_plugin.analysis.tables import Table
from ifn_plugin.fileio import write_atomic

GIB = 2**30


def write_result(result: dict[str, Any], path: Path) -> None:
    """Write a result as Markdown and as JSON, to ``path`` with ``.md`` and with ``.json``."""
    for suffix, text in (('.md', report(result) + '\n'), ('.json', json.dumps(result, indent=1))):
        write_atomic(text.encode(), path.with_name(path.name.removesuffix('.md').removesuffix('.json') + suffix))


def read_result(path: Path) -> dict[str, Any]:
    """Read a result from its JSON file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is truncated or was not written by the benchmark.
    """
    try:
        result = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not a JSON file of a benchmark: {error}') from error
    if not isinstance(result, dict) or not {'device', 'cases'} <= result.keys():
        raise ValueError(f'{path} is not a result of a benchmark. Fix: name the JSON file that its --out wrote.')
    return result


def report(result: dict[str, Any]) -> str:
    """Return all tables of a result in Markdown."""
    tables = [count_table(result['cases'][0]['size'], result['counts'])] if 'counts' in result else []
    tables += map(case_table, result['cases'])
    title = f'{result["device"]}, torch {torch.__version__}, median of {result["rounds"]} rounds'
    return '\n\n'.join([title, *(table.markdown() for table in tables)]) + '\n'


def count_table(size: int, counts: Sequence[dict[str, Any]]) -> Table:
    """Return the table of parameters and arithmetic."""
    rows = [[
        record['config'], f'failed: {record["error"]}', '', ''
    ] if 'error' in record else [
        record['config'], f'{record["parameters"]:,}', f'{record["trainable"]:,}', f'{record["macs"] / 1e9:.2f}'
    ] for record in counts]
    return Table('', ['configuration', 'parameters', 'trainable', f'GMAC, one pair of {size}×{size}'], rows)


def case_table(case: dict[str, Any]) -> Table:
    """Return the table of a case of a result."""
    if case['task'].endswith('data'):
        return _data_table(case)
    size = f'{case["size"]}×{case["size"]}' if case['size'] else 'with its data pipeline'
    title = f'{"Inference" if case["task"] == "inference" else "Train"}, {size}, batch {case["batch"]}'
    first, rows = case['rows'][0], []
    for record in case['rows']:
        name = [record['config'], record['variant'].replace('_', '-').replace('+', ', ')]
        if 'error' in record:
            rows.append([*name, f'failed: {record["error"]}', '', ''])
            continue
        peak, other = record['peak_memory'], first.get('peak_memory')
        memory = f' ({peak / other:.2f})' if peak and other else ''
        rows.append([*name, format_times(record['seconds']), _ratio(record, first),
                     '' if peak is None else f'{peak / GIB:.2f}{memory}'])
    return Table(
        title, ['configuration', 'variant', 'ms a pair: median (range)', 'ratio', 'peak memory, GiB (of the first)'],
        rows)


def _data_table(case: dict[str, Any]) -> Table:
    first, rows = case['rows'][0], []
    for record in case['rows']:
        if 'error' in record:
            rows.append([record['config'], f'failed: {record["error"]}', '', ''])
        else:
            rate = f'{1 / statistics.median(record["seconds"]):.4g}'
            rows.append([record['config'], format_times(record['seconds']), rate, _ratio(record, first)])
    return Table('Training pipeline, ' + ('files in memory' if case['task'] == 'data' else 'files on disk'),
                 ['configuration', 'ms a sample: median (range)', 'samples/s', 'ratio'], rows)


def format_times(seconds: Sequence[float]) -> str:
    """Return the median and the range in milliseconds."""
    return f'{1000 * statistics.median(seconds):.4g} ({1000 * min(seconds):.4g}–{1000 * max(seconds):.4g})'


def _ratio(record: dict[str, Any], first: dict[str, Any]) -> str:
    """Return the speed relative to the first row."""
    if 'error' in first:
        return ''
    return f'{statistics.median(first["seconds"]) / statistics.median(record["seconds"]):.2f}'


def cost_tables(result: dict[str, Any]) -> Iterator[Table]:
    """Yield short tables, without ranges and ratios."""
    rows = [[record['config'], f'{record["parameters"] / 1e6:.2f}', f'{record["macs"] / 1e9:.2f}']
            for record in result.get('counts', []) if 'error' not in record]
    yield Table(result['device'], ['configuration', 'parameters, millions', 'GMAC a pair'], rows)
    for case in result['cases']:
        rows = [[row['config'], row['variant'], *([f'failed: {row["error"]}', ''] if 'error' in row else [
            f'{1000 * statistics.median(row["seconds"]):.4g}',
            '' if row['peak_memory'] is None else f'{row["peak_memory"] / GIB:.2f}'])] for row in case['rows']]
        size = f', {case["size"]}×{case["size"]}' if case['size'] else ''
        if case['size'] or case['task'] == 'end_to_end':
            size += f', batch {case["batch"]}'
        header = ['configuration', 'variant', 'ms a pair', 'peak memory, GiB']
        yield Table(case['task'].replace('_', ' ') + size, header, rows)
