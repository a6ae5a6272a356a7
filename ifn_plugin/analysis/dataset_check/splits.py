"""Splits of a data set, from its folder or from a configuration."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ifn_plugin.analysis.dataset_check.records import Split
from ifn_plugin.datasets import LEVIRCDDataset, find_loaders
from ifn_plugin.datasets.levircd import LAYOUT, walk
from ifn_plugin.datasets.packing import SUMS
from ifn_plugin.datasets.settings import find_remote, list_dataset_settings
from ifn_plugin.utils.configurations import is_type, registry_of, resolve_type, type_name


def find_splits(dataset: Path | Config) -> list[Split]:
    """Find the splits of a data set.

    Args:
        dataset: A folder that contains splits in LEVIR-CD's layout, ``{train,val,test}/{A,B,label}`` or with other
            names, or is one such split; or a configuration, for the folders of its data sets.

    Returns:
        The splits, not read yet.

    Raises:
        ValueError: If there are no splits, or they are not on disk.
    """
    splits = list(_folder_splits(dataset) if isinstance(dataset, Path) else _configured_splits(dataset))
    if not splits:
        name = dataset if isinstance(dataset, Path) else dataset.filename
        raise ValueError(f'{name} has no folder A, B or label. Fix, for other names: check a configuration whose '
                         'data_prefix has them.')
    return splits


def _folder_splits(folder: Path) -> Iterator[Split]:
    parents = sorted({path.parent for path in walk(folder) if path.name in LAYOUT.values() and path.is_dir()})
    complete = {parent for parent in parents if all((parent / kind).is_dir() for kind in LAYOUT.values())}
    for parent in parents:
        if complete.isdisjoint(parent.parents):  # below, A may be the name of a part
            name = str(parent.relative_to(folder))
            suffix = '.npy' if (parent / SUMS).is_file() else None  # of a packed split
            yield Split(name, (parent / 'A', parent / 'B', parent / 'label'), name, (suffix, ) * 3)


def _configured_splits(cfg: Config) -> Iterator[Split]:
    for name in ('train', 'val', 'test'):
        datasets = list_dataset_settings(cfg, name)
        for number, settings in enumerate(datasets, 1):
            kind = resolve_type(settings.get('type'), registry_of(cfg, DATASETS))
            prefixes = (LAYOUT if is_type(kind, DATASETS, LEVIRCDDataset) else {}) | (settings.get('data_prefix') or {})
            steps = [type_name(step.get('type')) for step in settings.get('pipeline') or []]
            stock = next((step for step in steps if step.endswith('LoadAnnotations')), '')
            if prefixes.keys() >= LAYOUT.keys():
                data_root = settings.get('data_root') or ''
                remote = find_remote(settings)
                if remote is not None:
                    raise ValueError(f'{remote}: check_dataset reads files on disk. Fix: check a copy on disk.')
                root = Path(data_root)
                date1, date2, label = (root / prefixes[kind] for kind in LAYOUT)
                yield Split(
                    f'{name} {number}' if len(datasets) > 1 else name,
                    (date1, date2, label),
                    part_of=name,
                    suffixes=_suffixes(settings, kind),
                    ann_file=root / settings.ann_file if settings.get('ann_file') else None,
                    indices=settings.get('indices'),
                    loaders=find_loaders(cfg, settings),
                    stock_loader=stock)


def _suffixes(settings: Any, kind: Any) -> tuple[str | None, str | None, str | None]:
    """Return the suffixes of both dates and the labels; open-cd's data sets have defaults of their own."""
    parameters = inspect.signature(kind).parameters if isinstance(kind, type) else {}
    known = {name: parameter.default for name, parameter in parameters.items() if name.endswith('suffix')} | settings
    return (known.get('img_suffix_from') or known.get('img_suffix'),
            known.get('img_suffix_to') or known.get('img_suffix'), known.get('seg_map_suffix'))
