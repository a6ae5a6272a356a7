"""Cost of the models of a comparison, as the benchmark measures it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ifn_plugin.analysis.benchmark import Case, Entry, case_table, cost_tables, read_result, run_benchmark, write_result
from ifn_plugin.analysis.comparison.runs import settings_file
from ifn_plugin.analysis.tables import Table


def measure_cost(work_dir: Path, folders: dict[str, Path], size: int, batch: int) -> Iterator[Table]:
    """Measure models with the settings of their runs, unless that is already done; keep the result in the work dir.

    Args:
        work_dir: Work dir of the comparison.
        folders: Folder of one run of each model.
        size: Side of the images, in pixels.
        batch: Number of pairs in a batch.

    Yields:
        The table of each case once it is measured.
    """
    cases = [Case(task, size, batch) for task in ('inference', 'train')]
    entries = [Entry(name, settings_file(folder)) for name, folder in folders.items()]
    former = read_cost(work_dir)
    measured = ({record['config'] for record in former['counts']},
                {(case['task'], case['size'], case['batch']) for case in former['cases']
                 if not any('error' in row for row in case['rows'])})
    changed = max(entry.config.stat().st_mtime for entry in entries)
    if measured != (set(folders), set(cases)) or (work_dir / 'cost.json').stat().st_mtime < changed:
        for result in run_benchmark(entries, cases, ['float32']):
            yield case_table(result['cases'][-1])
            write_result(result, work_dir / 'cost')


def read_cost(work_dir: Path) -> dict[str, Any]:
    """Read the measured cost; return an empty result where the file is missing or truncated."""
    try:
        return read_result(work_dir / 'cost.json')
    except (FileNotFoundError, ValueError):
        return dict(counts=[], cases=[])


def cost_report(work_dir: Path) -> list[Table]:
    """Return the tables of all measurements, memory included."""
    content = read_cost(work_dir)
    return list(cost_tables(content)) if content['cases'] else []
