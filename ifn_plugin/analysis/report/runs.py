"""Logs and records of finished runs, read from their work dirs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ifn_plugin.analysis.logs import read_log


@dataclass
class Run:
    """Finished run.

    Attributes:
        name: Name on the page.
        folder: Work dir.
        training: Log entries of training, in order of the iterations.
        validations: Log entries of the validations.
        split: Split that ``records`` belong to, ``test`` or ``val``.
        records: Record of ``ChangeMetric`` for each protocol; a single protocol has an empty name.
        iteration: Iteration of the evaluated weights, if known.
        checkpoint: File with these weights, if found.
        config: Text of their configuration, if known.
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
        """Name of the protocol to show: ``whole`` if there is one of this name, or else the first."""
        return 'whole' if 'whole' in self.records else next(iter(self.records), '')

    @property
    def record(self) -> dict[str, Any]:
        """Record under :attr:`protocol`."""
        return self.records.get(self.protocol, {})

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """Scores of each pair, the worst first, without pairs whose label has no change, for which F1 is undefined."""
        pairs = [pair for pair in self.record.get('pairs', []) if pair['counts'][0] + pair['counts'][2]]
        return sorted(pairs, key=lambda pair: pair['F1'])


def name_folders(folders: Sequence[Path]) -> list[str]:
    """Name work dirs by the shortest ends of their paths that differ."""
    parts = [folder.resolve().parts for folder in folders]
    for number in range(2, 2 + max(map(len, parts))):
        names = ['/'.join(part[-number:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def read_run(folder: Path, name: str) -> Run:
    """Read the log and the records of a run from its work dir.

    Raises:
        FileNotFoundError: If the folder has neither.
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
        raise FileNotFoundError(f'{folder} has neither a training log, */vis_data/scalars.json, nor a record of an '
                                "evaluation, */evaluation_test.json. Fix: name a run's work dir.")
    # the newest file may belong to another test, whose panels are in the same folder
    config = found.get('config') or (configs[-1].read_text(encoding='utf-8') if configs else None)
    return Run(name, folder, [training[key] for key in sorted(training)],
               [validations[key] for key in sorted(validations)], split, found['protocols'], found.get('iteration'),
               _find_checkpoint(folder, found.get('checkpoint'), found.get('iteration'), found.get('epoch')),
               config)


def _find_checkpoint(folder: Path, name: str | None, iteration: int | None, epoch: int | None) -> Path | None:
    """Find the weights of a record: the tested file, one of the same iteration, or else the best or the last."""
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
