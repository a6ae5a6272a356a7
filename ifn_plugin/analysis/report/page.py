"""HTML page of a report."""

from collections.abc import Sequence
from pathlib import Path

from ifn_plugin.analysis.report.curves import threshold_charts, training_charts
from ifn_plugin.analysis.report.pictures import pictures
from ifn_plugin.analysis.report.runs import Run
from ifn_plugin.analysis.report.tables import pair_table, score_tables
from ifn_plugin.analysis.tables import Table
from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils import readable
from ifn_plugin.visualization import write_page


def write_report(runs: Sequence[Run], out: Path, number: int = 3, costs: Sequence[Table] = (),
                 device: str | None = None) -> str:
    """Write a page about runs, and its tables in Markdown beside it.

    Args:
        runs: Runs from :func:`read_run`.
        out: HTML file to write.
        number: Number of best and of worst pairs to show.
        costs: Tables of a benchmark.
        device: Device to compute the pictures on; default: a GPU where there is one.

    Returns:
        The tables in Markdown.
    """
    tables = list(score_tables(runs))
    write_page(
        out, 'report.html.j2', runs=runs, tables=tables, costs=costs, training=list(training_charts(runs)),
        thresholds=list(threshold_charts(runs)),
        pairs=[(run, list(pictures(run, number, device)), pair_table(run)) for run in runs])
    markdown = readable('\n\n'.join(table.markdown() for table in [*tables, *costs]))
    write_atomic(f'{markdown}\n'.encode(), out.with_suffix('.md'))
    return markdown
