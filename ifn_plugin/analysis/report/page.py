"""HTML page of a report."""

from collections.abc import Sequence
from pathlib import Path

from ifn_plugin.analysis.report.curves import threshold_charts, training_charts
from ifn_plugin.analysis.report.maps import read_maps
from ifn_plugin.analysis.report.pictures import report_viewer
from ifn_plugin.analysis.report.runs import Run
from ifn_plugin.analysis.report.side_outputs import side_outputs
from ifn_plugin.analysis.report.tables import object_table, score_table
from ifn_plugin.analysis.report.verdict import description, differences, verdict
from ifn_plugin.analysis.tables import Table
from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils import readable
from ifn_plugin.visualization import write_page


def write_report(runs: Sequence[Run], out: Path, sides: int = 1, costs: Sequence[Table] = (),
                 device: str | None = None) -> str:
    """Write a page about runs, and its tables in Markdown beside it.

    Args:
        runs: Runs from :func:`read_run`.
        out: HTML file to write.
        sides: Number of best and of worst pairs whose side outputs are drawn, for which the network runs.
        costs: Tables of a benchmark.
        device: Device to compute the side outputs on; default: a GPU where there is one.

    Returns:
        The verdict and the tables in Markdown.
    """
    evaluations = [evaluation for run in runs for evaluation in run.evaluations]
    for evaluation in evaluations:
        if len(runs) == 1 and evaluation.details:
            evaluation.run = ''  # what distinguishes them is enough
    maps = [read_maps(evaluation) for evaluation in evaluations]
    scores = score_table(evaluations)
    tables = [scores] if scores.rows else []
    objects = object_table(evaluations, [kept for kept, _ in maps])
    told, about, changed = verdict(evaluations), description(evaluations), differences(evaluations)
    write_page(
        out, 'report.html.j2', runs=runs, verdict=told, description=about, differences=changed, tables=tables,
        objects=objects, costs=costs, charts=[*threshold_charts(evaluations), *training_charts(runs)],
        viewer=report_viewer(evaluations, maps) if any(evaluation.record.get('pairs') for evaluation in evaluations)
        else None, sides=[side for run in runs for side in side_outputs(run, sides, device)])
    shown = [about, *tables, objects, *costs]
    markdown = readable('\n\n'.join([*told, *(table.markdown() for table in shown if table.rows)]))
    write_atomic(f'{markdown}\n'.encode(), out.with_suffix('.md'))
    return markdown
