"""HTML page about a data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ifn_plugin.analysis.dataset_check.records import Finding, Pair, Split, Trio
from ifn_plugin.analysis.dataset_check.summary import summarize
from ifn_plugin.analysis.pairs import load_pair
from ifn_plugin.datasets import LoadChangeLabel, LoadPair
from ifn_plugin.visualization import write_page
from ifn_plugin.visualization.charts import Chart
from ifn_plugin.visualization.embedded import embed
from ifn_plugin.visualization.panels import draw_mask, draw_row

# Findings, and pairs with findings, to show: those of large data sets would make the page too large to open
SHOWN = 500
PICTURED = 100


def write_summary(path: Path, splits: Sequence[Split], findings: Sequence[Finding], number: int) -> None:
    """Write a page: the pairs with findings first, then the shares of change, and sample pairs of each split.

    Args:
        path: HTML file to write.
        splits: Splits that were read.
        findings: Findings in these splits.
        number: Number of sample pairs to show of each split.
    """
    listed = sorted(findings, key=lambda finding: not finding.error)[:SHOWN]
    concerned: dict[Trio, list[Finding]] = {}
    for finding in listed:
        for files in finding.pairs:
            concerned.setdefault(files, []).append(finding)
    places = {files: f'pair-{place}' for place, files in enumerate(list(concerned)[:PICTURED], 1)}
    pairs = {pair.files: (split, pair) for split in splits for pair in split.pairs}

    def card(split: Split, pair: Pair) -> dict[str, object]:
        files = pair.files
        return dict(place=places.get(files, ''), findings=concerned.get(files, []), picture=_picture(
            files, split.loaders), caption=f'{split.name}/{files[0].name}, {100 * pair.changed:.2f} % changed')

    samples = {}
    for split in splits:
        # from the least to the most change
        ranked = sorted(split.pairs, key=lambda pair: pair.changed)
        chosen = np.unique(np.linspace(0, len(ranked) - 1, min(number, len(ranked))).astype(int))
        samples[split.name] = [card(split, ranked[place]) for place in chosen]
    write_page(
        path, 'check_dataset.html.j2', summaries=[summarize(split) for split in splits], samples=samples,
        findings=[(finding, [(places[files], files[0].name) for files in finding.pairs if files in places])
                  for finding in listed], problems=[card(*pairs[files]) for files in places],
        total=len(findings), errors=sum(finding.error for finding in findings), charts=_charts(splits))


def _charts(splits: Sequence[Split]) -> list[Chart]:
    """Return the histogram of the share of changed pixels; pairs without any change are a bin of their own."""
    shares = {split.name: np.array([100 * pair.changed for pair in split.pairs if pair.labelled]) for split in splits}
    shares = {name: values for name, values in shares.items() if len(values)}
    highest = max((values.max() for values in shares.values()), default=0.)
    if not highest:
        return []
    edges = np.linspace(0, highest, 31)
    chart = Chart('Changed pixels in a pair', 'changed, % of the pixels', 'pairs, %', steps=True, xlim=(0, highest))
    for number, (name, values) in enumerate(shares.items()):
        counts = np.histogram(values[values > 0], edges)[0]
        none = 100 * (values == 0).mean()
        chart.line(f'{name} ({none:.0f} % of the pairs without change)', number, edges,
                   [*(100 * counts / len(values)), 0])
    return [chart]


def _picture(files: Trio, loaders: tuple[LoadPair, LoadChangeLabel]) -> str:
    *dates, label = load_pair(files, *loaders)
    date1, date2 = map(loaders[0].picture, dates)
    return embed(draw_row({'date 1': date1, 'date 2': date2, 'label': draw_mask(label)}, 256))
