"""Summary of a data set, as text."""

from collections import Counter

import numpy as np

from ifn_plugin.analysis.dataset_check.records import Split
from ifn_plugin.utils import abbreviate


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
