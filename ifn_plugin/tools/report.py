"""A page about finished runs: ``python -m ifn_plugin.tools.report WORK_DIR [WORK_DIR ...]``.

One self-contained HTML file: losses of the five levels, validation, precision and recall, thresholds, side outputs,
best and worst pairs, cost; and the tables in Markdown beside it. It reads what training and testing left in the folders
(``ChangeMetric`` with ``EvaluationHook``), and runs the network only for the pictures.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config

from ifn_plugin.data import find_loaders
from ifn_plugin.fileio import write_atomic
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.models import IFNHead
from ifn_plugin.tools._charts import VALIDATION, chart, style_of
from ifn_plugin.tools._common import read_log
from ifn_plugin.tools._pages import embed, load_pair, readable, write_page
from ifn_plugin.visualization import draw_panel

SCORES = ('Precision', 'Recall', 'F1', 'IoU', 'OA', 'Kappa')
THRESHOLDS = (('as configured', ''), ('0.5', '@0.5'), ("validation's best", '@val'))


@dataclass
class Run:
    """A finished run.

    Attributes:
        name: In the page.
        folder: Its work dir.
        training: What was logged of each iteration, in order.
        validations: Of each validation.
        split: What ``records`` are of, ``test`` or ``val``.
        records: ``ChangeMetric``'s record of each protocol; the only one's name is empty.
        iteration: Of the weights that ``records`` are of, if that is known.
        checkpoint: These weights, if they are there.
        config: The text of their configuration, if that is known.
    """

    name: str
    folder: Path
    training: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    split: str
    records: dict[str, dict[str, Any]]
    iteration: int | None
    checkpoint: Path | None
    config: str | None

    @property
    def protocol(self) -> str:
        """The first, ``whole`` if there is one of this name."""
        return 'whole' if 'whole' in self.records else next(iter(self.records), '')

    @property
    def record(self) -> dict[str, Any]:
        """Of this protocol."""
        return self.records.get(self.protocol, {})


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write a page about finished runs')
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='folders of train and test')
    parser.add_argument('--names', nargs='+', metavar='NAME', help="of the runs; default: the folders'")
    parser.add_argument('--out', type=Path, help='HTML file to write; default: report.html in the first folder')
    parser.add_argument('--pairs', type=int, default=3, help='best and worst pairs to show, each; default: 3')
    parser.add_argument('--cost', type=Path, metavar='FILE.json', help="the benchmark's result")
    parser.add_argument('--device', help='where to compute the pictures; default: a GPU where there is one')
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.work_dirs):
        parser.error(f'--names needs one name for each of the {len(args.work_dirs)} folders')
    if args.names and len(set(args.names)) != len(args.names):
        parser.error('--names needs a different name for each folder')
    args.out = args.out or args.work_dirs[0] / 'report.html'
    if args.out.suffix != '.html':
        parser.error(f'--out {args.out}: name a file that ends in .html')
    return args


def read_run(folder: Path, name: str) -> Run:
    """Read what a run left in its work dir.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    entries = read_log(folder)
    training = {entry['iter']: entry for entry in entries if 'loss' in entry and 'iter' in entry}
    validations = {entry['step']: entry for entry in entries if 'F1' in entry and entry.get('step')}
    found: dict[str, Any] = dict(protocols={})
    configs = [*folder.glob('vis_data/config.py'), *sorted(folder.glob('*/vis_data/config.py'))]
    split = 'test'
    for split in ('test', 'val'):
        files = sorted(folder.glob(f'*/evaluation_{split}.json'))
        if files:
            found = json.loads(files[-1].read_text(encoding='utf-8'))
            configs += files[-1].parent.glob('vis_data/config.py')
            break
    if not training and not found['protocols']:
        raise FileNotFoundError(f'{folder} has neither the log of a training, */vis_data/scalars.json, nor a record of '
                                "an evaluation, */evaluation_test.json: is it a run's work dir?")
    # the newest may be that of another test, whose panels lie in the same folder
    config = found.get('config') or (configs[-1].read_text(encoding='utf-8') if configs else None)
    return Run(name, folder, [training[key] for key in sorted(training)],
               [validations[key] for key in sorted(validations)], split, found['protocols'], found.get('iteration'),
               _find_checkpoint(folder, found.get('checkpoint'), found.get('iteration'), found.get('epoch')),
               config)


def _find_checkpoint(folder: Path, name: str | None, iteration: int | None, epoch: int | None) -> Path | None:
    """The weights behind a record: the file that was tested, one of its time, or else the best or the last."""
    candidates = [Path(name), folder / Path(name).name] if name else []
    if epoch is not None:
        candidates += [*folder.glob(f'best_*epoch_{epoch}.pth'), folder / f'epoch_{epoch}.pth']
    if iteration is not None:
        candidates += [*folder.glob(f'best_*iter_{iteration}.pth'), folder / f'iter_{iteration}.pth']
    elif not name and epoch is None:
        candidates = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime, reverse=True)
        last = folder / 'last_checkpoint'
        candidates += [Path(last.read_text().strip())] if last.is_file() else []
    return next((path for path in candidates if path.is_file()), None)


# Tables


@dataclass
class Table:
    """A table for HTML and Markdown."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [f'### {self.title}\n'] if self.title else []
        lines += ['| ' + ' | '.join(cells) + ' |' for cells in (self.header, ['---'] * len(self.header), *self.rows)]
        return '\n'.join(lines)


def score_tables(runs: Sequence[Run]) -> Iterator[Table]:
    """One table for each protocol."""
    for protocol in dict.fromkeys(protocol for run in runs for protocol in run.records):
        rows = []
        for run in runs:
            metrics = run.records.get(protocol, {}).get('metrics', {})
            for title, suffix in THRESHOLDS:
                if f'F1{suffix}' not in metrics:
                    continue
                chosen = f'{title} ({metrics["threshold@val"]:.6g})' if suffix == '@val' else title
                # average precision belongs to no threshold
                split = run.split if run.iteration is None else f'{run.split}, iteration {run.iteration}'
                rows.append([run.name, split, chosen, *(f'{metrics[score + suffix]:.2f}' for score in SCORES),
                             f'{metrics["AP"]:.2f}' if 'AP' in metrics else ''])
        yield Table(protocol and f'Protocol: {protocol}', ['run', 'split', 'threshold', *SCORES, 'AP'], rows)


def pair_table(run: Run) -> Table:
    """The run's pairs, the worst first."""
    rows = [[Path(pair['files'][0] or '').stem, *(f'{pair[score]:.2f}' for score in SCORES[:4]),
             *(f'{count:,}' for count in pair['counts'][:3])] for pair in _by_f1(run)]
    return Table('', ['pair', *SCORES[:4], 'hits', 'false alarms', 'misses'], rows)


def cost_tables(content: dict[str, Any]) -> Iterator[Table]:
    """What ``python -m ifn_plugin.tools.benchmark --out`` wrote."""
    rows = [[record['config'], f'{record["parameters"] / 1e6:.2f}', f'{record["macs"] / 1e9:.2f}']
            for record in content.get('counts', []) if 'error' not in record]
    yield Table(content['device'], ['configuration', 'parameters, millions', 'GMAC a pair'], rows)
    for case in content['cases']:
        rows = [[row['config'], row['variant'], f'{1000 * float(np.median(row["seconds"])):.4g}',
                 '' if row['peak_memory'] is None else f'{row["peak_memory"] / 2**30:.2f}']
                for row in case['rows'] if 'error' not in row]
        size = f', {case["size"]}×{case["size"]}' if case['size'] else ''
        if case['size'] or case['task'] == 'end_to_end':
            size += f', batch {case["batch"]}'
        header = ['configuration', 'variant', 'ms a pair', 'peak memory, GiB']
        yield Table(case['task'].replace('_', ' ') + size, header, rows)


def _by_f1(run: Run) -> list[dict[str, Any]]:
    # without a change in the label, F1 says nothing
    pairs = [pair for pair in run.record.get('pairs', []) if pair['counts'][0] + pair['counts'][2]]
    return sorted(pairs, key=lambda pair: pair['F1'])


# Charts


def _smooth(values: Sequence[float], share: float = 0.03) -> np.ndarray:
    """Mean over a window that is shorter at the ends."""
    width = max(1, round(share * len(values)))
    ones, array = np.ones(width), np.asarray(values, float)
    smooth: np.ndarray = np.convolve(array, ones, 'same') / np.convolve(np.ones_like(array), ones, 'same')
    return smooth


def training_charts(runs: Sequence[Run]) -> Iterator[str]:
    """Losses and validation over the iterations."""
    trained = [run for run in runs if run.training]
    if trained:
        yield chart('Loss, all levels', 'iteration', 'loss', [
            (run.name, [entry['iter'] for entry in run.training], _smooth([entry['loss'] for entry in run.training]),
             style_of(number)) for number, run in enumerate(trained)])
    validated = [run for run in runs if run.validations]
    for score, title in VALIDATION.items():
        shown = [run for run in validated if score in run.validations[-1]]
        if shown:
            yield chart(title, 'iteration', '%', [
                (run.name, [entry['step'] for entry in run.validations if score in entry],
                 [entry[score] for entry in run.validations if score in entry],
                 style_of(number, dots=True)) for number, run in enumerate(shown)])
    for run in trained:
        levels = _level_losses(run)
        if levels:
            iterations = [entry['iter'] for entry in run.training]
            yield chart(f'{run.name}: loss of each level, coarse to fine', 'iteration', 'loss', [
                (f'level {number}', iterations, _smooth(values), style_of(number - 1))
                for number, values in levels.items()])


def _level_losses(run: Run) -> dict[int, list[float]]:
    """The sum of each level's losses at each logged iteration, if the network has levels."""
    numbers = sorted({int(found[1]) for key in run.training[0] if (found := re.search(r'\.level(\d+)\.', key))})
    return {number: [sum(value for key, value in entry.items() if f'.level{number}.' in key)
                     for entry in run.training] for number in numbers}


def threshold_charts(runs: Sequence[Run]) -> Iterator[str]:
    """Precision over recall, and F1 over the threshold."""
    curves: list[Any] = []
    for number, run in enumerate(runs):
        if 'curve' in run.record:
            curve = {name: np.asarray(values, float) for name, values in run.record['curve'].items()}
            found = curve['hits'] + curve['false_alarms']
            changed = np.maximum(curve['hits'] + curve['misses'], 1)
            shown = found > 0
            precision = 100 * curve['hits'][shown] / found[shown]
            f1 = 200 * curve['hits'] / np.maximum(found + changed, 1)
            curves.append((run, 100 * (curve['hits'] / changed)[shown], precision, curve['thresholds'], f1,
                           style_of(number)))
    if not curves:
        return
    yield chart(
        'Precision over recall', 'recall, %', 'precision, %',
        [(f'{run.name}, AP {run.record["metrics"]["AP"]:.1f}', recall, precision, style)
         for run, recall, precision, _, _, style in curves], xlim=(0, 101), ylim=(0, 101))
    lines: list[Any] = [(run.name, thresholds, f1, style) for run, _, _, thresholds, f1, style in curves]
    for run, _, _, thresholds, f1, style in curves:
        chosen = run.record['metrics'].get('threshold@val')
        if chosen is not None:
            dot = style | dict(marker='o', markersize=6, linewidth=0)
            lines.append(('', [chosen], [np.interp(chosen, thresholds, f1)], dot))
    yield chart("F1 over the threshold (dots: validation's choice)", 'threshold', 'F1, %', lines, xlim=(0, 1))


# Pictures


def pictures(run: Run, number: int, device: str | None) -> Iterator[tuple[str, str]]:
    """Worst and best pairs as panels, then the side outputs of those that IFN has: captions and image sources.

    Without what they need, such as the data set or the stack of the run, there is one caption that says so.
    """
    ranked = [pair for pair in _by_f1(run) if len(pair['files']) == 3 and all(pair['files'])]
    if not ranked or number < 1:
        return
    chosen = [('worst', pair) for pair in ranked[:number]]
    chosen += [('best', pair) for pair in ranked[number:][-number:][::-1]]
    try:
        yield from _draw(run, chosen, device)
    except Exception as error:  # the tables and charts are worth having without them
        yield f'No pictures: {type(error).__name__}: {" ".join(str(error).split())}', ''


def _draw(run: Run, chosen: Sequence[tuple[str, dict[str, Any]]], device: str | None) -> list[tuple[str, str]]:
    if run.checkpoint is None or run.config is None:
        weights = 'weights' if run.iteration is None else f'weights of iteration {run.iteration}'
        raise FileNotFoundError(f'{run.folder} has not both the {weights} and their configuration')
    cfg = Config.fromstring(run.config, '.py')
    cfg.model = cfg.model.get('module') or cfg.model  # after a test with test-time augmentation
    if run.protocol:
        cfg.model.test_cfg = (cfg.test_cfg.get('protocols') or {}).get(run.protocol) or dict(mode='whole')
    detector = ChangeDetector(cfg, run.checkpoint, device, batch_size=1)
    loaders = find_loaders(cfg)
    head: Any = detector.model.decode_head
    levels: list[np.ndarray] = []
    if isinstance(head, IFNHead) and cfg.model.test_cfg.get('mode', 'whole') == 'whole':  # each window has its own
        decoder: Any = head.levels
        for level in decoder:
            level.logit.register_forward_hook(
                lambda *arguments: levels.append(arguments[2][0, 0].float().sigmoid().cpu().numpy()))
    panels, sides = [], []
    for kind, pair in chosen:
        date1, date2, label = load_pair(pair['files'], *loaders)
        name = Path(pair['files'][0]).stem
        levels.clear()
        change = detector.predict(*pair['files'][:2])
        panels.append((f'{name}, among the {kind}: F1 {pair["F1"]:.1f}', embed(
            draw_panel(loaders[0].picture(date1), loaders[0].picture(date2), change.changed, label, max_side=288))))
        if levels:
            sides.append((f'{name}: probability at the five levels, coarse to fine, and label',
                          embed(_side_by_side([*levels, (label == 1).astype(np.float32)], 240))))
    return panels + sides


def _side_by_side(maps: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Probabilities in colour, each shrunk or enlarged without interpolation to a side."""
    columns: list[np.ndarray] = []
    for probability in maps:
        shrinks = probability.shape[0] > side
        tile = cv2.resize((255 * probability).astype(np.uint8), (side, side),
                          interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        columns += [cv2.applyColorMap(tile, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.full((side, 4, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def _names(args: argparse.Namespace) -> list[str]:
    """Of the runs: as much of the ends of their folders as tells them apart."""
    if args.names:
        names: list[str] = args.names
        return names
    parts = [folder.resolve().parts for folder in args.work_dirs]
    for number in range(2, max(map(len, parts)) + 1):
        names = ['/'.join(part[-number:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        runs = [read_run(folder, readable(name)) for folder, name in zip(args.work_dirs, _names(args))]
        costs = list(cost_tables(json.loads(args.cost.read_text(encoding='utf-8')))) if args.cost else []
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    tables = list(score_tables(runs))
    write_page(
        args.out, 'report.html.j2', runs=runs, tables=tables, costs=costs, training=list(training_charts(runs)),
        thresholds=list(threshold_charts(runs)),
        pairs=[(run, list(pictures(run, args.pairs, args.device)), pair_table(run)) for run in runs])
    markdown = readable('\n\n'.join(table.markdown() for table in [*tables, *costs]))
    write_atomic(f'{markdown}\n'.encode(), args.out.with_suffix('.md'))
    print(readable(f'{markdown}\n\nThe page: {args.out}'))


if __name__ == '__main__':
    main()
