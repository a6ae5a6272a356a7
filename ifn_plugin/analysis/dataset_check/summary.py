"""Summary of a data set, as text and as an HTML page."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ifn_plugin.analysis.dataset_check.records import Finding, Split, Trio
from ifn_plugin.analysis.pairs import load_pair
from ifn_plugin.datasets import LoadChangeLabel, LoadPair
from ifn_plugin.utils import abbreviate
from ifn_plugin.visualization import write_page
from ifn_plugin.visualization.pages import embed
from ifn_plugin.visualization.panels import draw_mask, draw_row


def summarize(split: Split) -> dict[str, str]:
    """Summarize a split: short texts by title, empty where unknown."""
    sizes = Counter(pair.size for pair in split.pairs)
    shown = [f'{width}×{height}' + (f' ({count})' if len(sizes) > 1 else '')
             for (height, width), count in sizes.most_common()]
    shares = [pair.changed for pair in split.pairs]
    values = sorted({value for pair in split.pairs for value in pair.values})
    counted = [pair for pair in split.pairs if pair.labelled]
    weights = [pair.labelled for pair in counted]
    mean = deviation = ''
    if counted:
        means, squares = np.average([pair.moments for pair in counted], axis=0, weights=weights)
        mean, deviation = (', '.join(f'{value:.1f}' for value in channels)
                           for channels in (means, np.sqrt(np.maximum(squares - means**2, 0))))
    return {
        'split': split.name,
        'pairs read': f'{len(split.pairs):,}',
        'files in A, B, label': ', '.join(f'{count:,}' for count in split.files),
        'sizes': abbreviate(shown, 3),
        'label values': abbreviate(values, 6),
        'changed': f'{100 * np.average([pair.changed for pair in counted], weights=weights):.2f} %' if counted else '',
        'pairs without change': f'{sum(not share for share in shares):,}',
        'mean': mean,
        'std': deviation,
    }


def write_summary(path: Path, splits: Sequence[Split], findings: Sequence[Finding], number: int) -> None:
    """Write a page with pictures of sample pairs of each split, and of the pairs of each finding.

    Args:
        path: HTML file to write.
        splits: Splits that were read.
        findings: Findings in these splits.
        number: Number of sample pairs to show of each split.
    """
    samples = {}
    for split in splits:
        # from the least to the most change
        ranked = sorted(split.pairs, key=lambda pair: pair.changed)
        places = np.unique(np.linspace(0, len(ranked) - 1, min(number, len(ranked))).astype(int))
        samples[split.name] = [
            (f'{ranked[place].files[0].name}, {100 * ranked[place].changed:.2f} % changed',
             _picture(ranked[place].files, split.loaders)) for place in places]
    loaders = {pair.files: split.loaders for split in splits for pair in split.pairs}
    shown = [(finding, [_picture(files, loaders[files]) for files in finding.pairs]) for finding in findings[:100]]
    write_page(
        path, 'check_dataset.html.j2', summaries=[summarize(split) for split in splits], samples=samples,
        findings=shown, total=len(findings))


def _picture(files: Trio, loaders: tuple[LoadPair, LoadChangeLabel]) -> str:
    *dates, label = load_pair(files, *loaders)
    date1, date2 = map(loaders[0].picture, dates)
    return embed(draw_row({'date 1': date1, 'date 2': date2, 'label': draw_mask(label)}, 256))
