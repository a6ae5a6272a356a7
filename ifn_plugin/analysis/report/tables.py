"""Tables of the scores of runs and of their pairs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ifn_plugin.analysis.report.runs import Run
from ifn_plugin.analysis.tables import Table

SCORES = ('Precision', 'Recall', 'F1', 'IoU', 'OA', 'Kappa')
THRESHOLDS = (('as configured', ''), ('0.5', '@0.5'), ("validation's best", '@val'))


def score_tables(runs: Sequence[Run]) -> Iterator[Table]:
    """Yield a table of the scores for each protocol."""
    for protocol in dict.fromkeys(protocol for run in runs for protocol in run.records):
        rows = []
        for run in runs:
            metrics = run.records.get(protocol, {}).get('metrics', {})
            for title, suffix in THRESHOLDS:
                if f'F1{suffix}' not in metrics:
                    continue
                chosen = f'{title} ({metrics["threshold@val"]:.6g})' if suffix == '@val' else title
                split = run.split if run.iteration is None else f'{run.split}, iteration {run.iteration}'
                rows.append([run.name, split, chosen, *(f'{metrics[score + suffix]:.2f}' for score in SCORES),
                             f'{metrics["AP"]:.2f}' if 'AP' in metrics else ''])  # AP is the same at all thresholds
        yield Table(protocol and f'Protocol: {protocol}', ['run', 'split', 'threshold', *SCORES, 'AP'], rows)


def pair_table(run: Run) -> Table:
    """Return the table of a run's pairs, the worst first."""
    rows = [[Path(pair['files'][0] or '').stem, *(f'{pair[score]:.2f}' for score in SCORES[:4]),
             *(f'{count:,}' for count in pair['counts'][:3])] for pair in run.pairs]
    header = ['pair', *SCORES[:4], 'true positives', 'false positives', 'false negatives']
    return Table('', header, rows)
