"""Data sets and loaders of a configuration."""

from typing import Any

from mmengine.config import Config

from ifn_plugin.datasets.transforms.loading import LoadChangeLabel, LoadPair
from ifn_plugin.registry import TRANSFORMS
from ifn_plugin.utils.configurations import is_type


def list_dataset_settings(cfg: Config, split: str) -> list[Any]:
    """The settings of a split's data sets, out of mmengine's ``RepeatDataset``, ``ConcatDataset`` and the like.

    Args:
        cfg: The configuration.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        One, none, or, from ``ConcatDataset``, several.
    """
    found, todo = [], [(cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}]
    while todo:
        settings = todo.pop(0)
        inner = [settings['dataset']] if 'dataset' in settings else settings.get('datasets') or []
        todo = [*inner, *todo]
        if settings and not inner:
            found.append(settings)
    return found


def dataset_settings(cfg: Config, split: str) -> Any:
    """The settings of a split's data set, of the first if there are several; empty if it has none.

    Args:
        cfg: The configuration.
        split: ``'train'``, ``'val'`` or ``'test'``.
    """
    return next(iter(list_dataset_settings(cfg, split)), {})


def find_loaders(cfg: Config, dataset: Any = None) -> tuple[LoadPair, LoadChangeLabel]:
    """The steps of a configuration's pipeline that load a pair and its label.

    Args:
        cfg: The configuration. Its test's pipeline is looked at first, then validation's and training's.
        dataset: The settings of a data set, whose own pipeline is looked at before these.

    Returns:
        Both; as they are by default where another project's steps load, or none.
    """
    found: dict[type, Any] = {}
    datasets = [settings for split in ('test', 'val', 'train') for settings in list_dataset_settings(cfg, split)]
    for settings in [dataset or {}, *datasets]:
        for step in settings.get('pipeline') or []:
            for kind in (LoadPair, LoadChangeLabel):
                if kind not in found and is_type(step.get('type'), TRANSFORMS, kind):
                    found[kind] = TRANSFORMS.build(step)
    return found.get(LoadPair) or LoadPair(), found.get(LoadChangeLabel) or LoadChangeLabel()
