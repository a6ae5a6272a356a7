"""Access to the data sets and loaders of a configuration."""

from typing import Any

from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from ifn_plugin.datasets.transforms.loading import LoadChangeLabel, LoadPair
from ifn_plugin.utils.configurations import is_type, registry_of


def list_dataset_settings(cfg: Config, split: str) -> list[Any]:
    """List the settings of a split's data sets, unwrapping mmengine's ``RepeatDataset``, ``ConcatDataset`` and others.

    Args:
        cfg: The configuration.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        The settings: one, none, or, with ``ConcatDataset``, several.
    """
    found, todo = [], [(cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}]
    while todo:
        settings = todo.pop(0)
        inner = [settings['dataset']] if 'dataset' in settings else settings.get('datasets') or []
        todo = [*inner, *todo]
        if settings and not inner:
            found.append(settings)
    return found


def find_remote(settings: Any) -> str | None:
    """Return the first folder of a data set that is not on disk, but in another file backend of mmengine.

    Args:
        settings: The settings of the data set.
    """
    folders = map(str, [settings.get('data_root') or '', *(settings.get('data_prefix') or {}).values()])
    backend = (settings.get('backend_args') or {}).get('backend', 'local')
    return next((folder for folder in folders if '://' in folder or backend != 'local'), None)


def find_loaders(cfg: Config, dataset: Any = None) -> tuple[LoadPair, LoadChangeLabel]:
    """Build the transforms of a configuration that load a pair and its label.

    Args:
        cfg: The configuration. The test pipeline is searched first, then those of validation and training.
        dataset: The settings of a data set, whose pipeline is searched before these.

    Returns:
        Both transforms, with their defaults if the pipelines have none or other projects' loaders.
    """
    found: dict[type, Any] = {}
    registry = registry_of(cfg, TRANSFORMS)
    datasets = [settings for split in ('test', 'val', 'train') for settings in list_dataset_settings(cfg, split)]
    for settings in [dataset or {}, *datasets]:
        for step in settings.get('pipeline') or []:
            for kind in (LoadPair, LoadChangeLabel):
                if kind not in found and is_type(step.get('type'), registry, kind):
                    found[kind] = registry.build(step)
    return found.get(LoadPair) or LoadPair(), found.get(LoadChangeLabel) or LoadChangeLabel()
