"""Logs and records of finished runs, read from their work dirs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ifn_plugin.analysis.logs import read_log
from ifn_plugin.utils.configurations import detector_settings, parse_config


@dataclass
class Evaluation:
    """Evaluation of one checkpoint.

    Attributes:
        run: Name of the run.
        details: What distinguishes it from the other evaluations of the run: checkpoint, augmentation, protocol.
        split: Split of the data set, ``test`` or ``val``.
        folder: Log folder with the record, and the maps that a test keeps.
        content: What ``EvaluationHook`` has written.
        protocol: Name of the protocol; empty if there is only one.
    """

    run: str
    details: list[str]
    split: str
    folder: Path
    content: dict[str, Any]
    protocol: str

    @property
    def name(self) -> str:
        """Name on the page; without the run's if that is empty."""
        return ', '.join(filter(None, [self.run, *self.details]))

    @property
    def record(self) -> dict[str, Any]:
        """Record of ``ChangeMetric``."""
        record: dict[str, Any] = self.content['protocols'][self.protocol]
        return record

    @property
    def checkpoint(self) -> str:
        """File of the evaluated weights, or what is known about them."""
        if self.content.get('checkpoint'):
            return str(self.content['checkpoint'])
        epoch, iteration = self.content.get('epoch'), self.content.get('iteration')
        known = f'epoch {epoch}' if epoch is not None else f'iteration {iteration}' if iteration is not None else ''
        return f'not from a file: {known} of the same process' if known else 'unknown'

    @cached_property
    def config(self) -> Config | None:
        """Configuration of the evaluation, if known; of the detector itself where a test augments."""
        with suppress(ValueError):
            cfg = parse_config(self.content['config'])
            cfg.model = detector_settings(cfg)
            return cfg
        return None


def pair_key(pair: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells a pair of a record from others: its files, and how many pixels its label has of each class."""
    tp, fp, fn, tn = pair['counts']
    return *pair['files'], fp + tn, tp + fn


@dataclass
class Run:
    """Finished run.

    Attributes:
        name: Name on the page.
        folder: Work dir.
        training: Log entries of training, in order of the iterations.
        validations: Log entries of the validations.
        evaluations: The last test of each checkpoint, in each way and by each protocol; without tests, the last
            validation.
    """

    name: str
    folder: Path
    training: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)


def name_folders(folders: Sequence[Path]) -> list[str]:
    """Name work dirs by the shortest ends of their paths that differ."""
    return _shortest([folder.resolve().parts for folder in folders])


def _shortest(paths: Sequence[Sequence[str]]) -> list[str]:
    names: list[str] = []
    for number in range(1, 2 + max(map(len, paths), default=0)):
        names = ['/'.join(path[-number:]) for path in paths]
        if len(set(names)) == len(set(map(tuple, paths))):
            break
    return names


def read_run(folder: Path, name: str) -> Run:
    """Read the log and the records of a run from its work dir.

    Raises:
        FileNotFoundError: If the folder has neither.
        ValueError: If a record cannot be read; it is named.
    """
    entries = read_log(folder)
    training = {entry['iter']: entry for entry in entries if 'loss' in entry and 'iter' in entry}
    validations = {entry['step']: entry for entry in entries if 'F1' in entry and entry.get('step')}
    found: list[tuple[str, Path, dict[str, Any]]] = []
    for split in ('test', 'val'):
        found = [(split, path.parent, content) for path, content in _read_records(folder, split)]
        if found:
            break
    if not training and not found:
        raise FileNotFoundError(f'{folder} has neither a training log, */vis_data/scalars.json, nor a record of an '
                                "evaluation, */evaluation_test.json. Fix: name a run's work dir.")
    return Run(name, folder, [training[key] for key in sorted(training)],
               [validations[key] for key in sorted(validations)], list(_name_evaluations(name, folder, found)))


def _read_records(folder: Path, split: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the last record of each checkpoint that was evaluated in each way; of validations, the last one."""
    records: dict[Any, tuple[Path, dict[str, Any]]] = {}
    for path in sorted(folder.glob(f'*/evaluation_{split}.json')):
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise ValueError(f'{path}: the record cannot be read ({error}). Fix: remove the file.') from error
        way = (content.get('checkpoint'), content.get('iteration'), _way(content)) if split == 'test' else None
        records.pop(way, None)
        records[way] = path, content
    yield from records.values()


def _way(content: dict[str, Any]) -> str:
    """Describe how weights were evaluated: by which model and hooks, on which data, and by which protocols."""
    try:
        cfg = parse_config(content['config'])
    except ValueError:
        return f'{content.get("tta")} {content["config"]}'
    loader = cfg.get('test_dataloader') or {}
    return repr([cfg.get('model'), loader.get('dataset'), cfg.get('test_cfg'), cfg.get('test_evaluator'),
                 cfg.get('custom_hooks'), sorted(content['protocols'])])


def _name_evaluations(name: str, work_dir: Path,
                      found: Sequence[tuple[str, Path, dict[str, Any]]]) -> Iterator[Evaluation]:
    """Name evaluations after the run and what distinguishes them: checkpoint, augmentation, protocol, log folder."""
    root = work_dir.resolve()
    checkpoints = [Path(content['checkpoint']).resolve() if content.get('checkpoint') else root / 'weights in memory'
                   for _, _, content in found]
    paths = [(path.relative_to(root) if path.is_relative_to(root) else path).parts for path in checkpoints]
    files = _shortest(paths)
    rows = [(split, folder, content, protocol, [
        file if len(set(paths)) > 1 else '',
        'TTA' if content.get('tta') else '',
        protocol if len(content['protocols']) > 1 else '']) for (split, folder, content), file in zip(found, files)
        for protocol in content['protocols']]
    all_parts = [parts for *_, parts in rows]
    for split, folder, content, protocol, parts in rows:
        twice = [folder.name] if all_parts.count(parts) > 1 else []
        yield Evaluation(name, [*filter(None, parts), *twice], split, folder, content, protocol)
