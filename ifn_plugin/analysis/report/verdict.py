"""Verdict of a report: which evaluation is best, how certain that is, and in what the evaluations differ."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config

from ifn_plugin.analysis.report.runs import Evaluation, pair_key
from ifn_plugin.analysis.tables import Table
from ifn_plugin.evaluation.bootstrap import interval, resample_f1

# Settings that say where a run writes and where it starts, not what it does
_ELSEWHERE = ('work_dir', 'load_from', 'resume', 'visualizer', 'vis_backends', 'log_level', 'launcher', 'env_cfg')


def verdict(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return sentences about the F1 of evaluations, with its uncertainty over the pairs.

    Evaluations of other pairs or labels than the first one's are not ranked.
    """
    scored = [evaluation for evaluation in evaluations if evaluation.record.get('pairs')]
    if not scored:
        return []
    files = _files(scored[0])
    compared = [evaluation for evaluation in scored if _files(evaluation) == files]
    samples = resample_f1([_counts(evaluation) for evaluation in compared])
    order = sorted(range(len(compared)), key=lambda index: -compared[index].record['metrics']['F1'])
    best, *others = order
    low, high = interval(samples[best])
    leads = 'has the highest F1, ' if others else 'has an F1 of '
    certainty = f'95 % interval over {len(files)} pairs: {low:.1f} to {high:.1f}' if len(files) > 1 else 'one pair only'
    sentences = [f'{compared[best].name} {leads}{compared[best].record["metrics"]["F1"]:.1f} ({certainty}).']
    for other in others:
        lead = compared[best].record['metrics']['F1'] - compared[other].record['metrics']['F1']
        low, high = interval(samples[best] - samples[other])
        certain = 'more than the choice of pairs explains' if low > 0 else 'which the choice of pairs may explain'
        extent = f' ({low:.2f} to {high:.2f}), {certain}' if len(files) > 1 else ''
        sentences.append(f'It is {lead:.2f} above {compared[other].name}{extent}.')
    left_out = [evaluation.name for evaluation in scored if _files(evaluation) != files]
    if left_out:
        sentences.append(f'Not ranked, since they are of other pairs or labels: {", ".join(left_out)}.')
    return sentences


def _files(evaluation: Evaluation) -> list[Any]:
    return sorted(map(str, map(pair_key, evaluation.record['pairs'])))


def _counts(evaluation: Evaluation) -> np.ndarray:
    pairs = sorted(evaluation.record['pairs'], key=lambda pair: str(pair['files']))
    return np.array([pair['counts'][:3] for pair in pairs], dtype=np.int64)


def description(evaluations: Sequence[Evaluation]) -> Table:
    """Return a table of what was evaluated, with a column for each evaluation."""
    rows = []
    for title, describe in _DESCRIPTION.items():
        cells = [describe(evaluation) for evaluation in evaluations]
        if any(cells):
            rows.append([title, *cells])
    return Table('', ['', *(evaluation.name for evaluation in evaluations)], rows)


def _data(evaluation: Evaluation) -> str:
    number = len(evaluation.record.get('pairs', []))
    return f'{evaluation.split}, {number} pairs'


def _configuration(evaluation: Evaluation) -> str:
    cfg = evaluation.config
    model = cfg.model if cfg else {}
    # the last of several heads makes the change map
    parts = [part[-1] if isinstance(part, list) else part for part in map(model.get, ('backbone', 'decode_head'))]
    names = [str(part.get('type', '')) for part in parts if part]
    return ' + '.join(name.removeprefix('ifn_plugin.') for name in names if name)


_DESCRIPTION = {
    'checkpoint': lambda evaluation: evaluation.checkpoint,
    'iteration': lambda evaluation: _text(evaluation.content.get('iteration')),
    'model': _configuration,
    'data': _data,
    'protocol': lambda evaluation: evaluation.protocol,
    'test-time augmentation': lambda evaluation: {True: 'yes', False: 'no'}.get(evaluation.content.get('tta'), ''),
    'threshold': lambda evaluation: _text(evaluation.record.get('threshold')),
    "validation's threshold": lambda evaluation: _text(evaluation.record['metrics'].get('threshold@val')),
    'seed': lambda evaluation: _text(evaluation.content.get('seed')),
    'date': lambda evaluation: evaluation.content.get('date', ''),
    'versions': lambda evaluation: ', '.join(
        f'{name} {version}' for name, version in evaluation.content.get('versions', {}).items()),
    'record': lambda evaluation: str(evaluation.folder),
}


def _text(value: Any) -> str:
    return '' if value is None else f'{value:.6g}' if isinstance(value, float) else str(value)


def differences(evaluations: Sequence[Evaluation]) -> Table:
    """Return a table of the settings in which the configurations of evaluations differ."""
    known = [(evaluation, dict(_flatten(cfg))) for evaluation in evaluations if (cfg := evaluation.config) is not None]
    keys = dict.fromkeys(key for _, settings in known for key in settings)
    rows = [[key, *(text if len(text) <= 120 else f'{text[:119]}…' for text in cells)] for key in keys
            if len(set(cells := [settings.get(key, '–') for _, settings in known])) > 1]
    return Table('', ['setting', *(evaluation.name for evaluation, _ in known)], rows)


def _flatten(settings: Config | dict[str, Any] | list[Any], prefix: str = '') -> Iterator[tuple[str, str]]:
    for key, value in enumerate(settings) if isinstance(settings, list) else settings.items():
        if not prefix and key in _ELSEWHERE:
            continue
        if value and (isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', repr(value)
