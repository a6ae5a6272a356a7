"""IFN, the deeply supervised image fusion network for change detection, for open-cd and mmsegmentation.

Detect the changes between two images::

    from ifn_plugin import ChangeDetector

    detector = ChangeDetector('ifn_mmseg_256x256_40k_levircd.py', 'best_F1_iter_40000.pth')
    change = detector.predict('1999.png', '2020.png')
    change.probability, change.changed  # (H, W), float32 and bool

Make any detector of open-cd or mmsegmentation faster with ``accelerate``, convert weights of other projects with
``convert_state_dict``, and look up the plugin's configurations with ``find_config``.

In a configuration, ``custom_imports = dict(imports=['ifn_plugin'])`` makes ``ifn_plugin.IFN``, ``ifn_plugin.IFNHead``
and the rest available under their scope, and makes the loading of checkpoints safe. On the command line,
``python -m ifn_plugin`` lists the commands and the configurations.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ifn_plugin.utils.stack import StackError, check_stack
from ifn_plugin.version import __version__

check_stack()

from ifn_plugin import datasets, engine, evaluation, models  # noqa: E402
from ifn_plugin.fileio.checkpoint import make_loading_safe  # noqa: E402

if TYPE_CHECKING:
    from ifn_plugin.apis.inferencer import ChangeDetector, ChangeMap, find_pairs
    from ifn_plugin.datasets import LEVIRCDDataset
    from ifn_plugin.engine import accelerate
    from ifn_plugin.evaluation import ChangeMetric
    from ifn_plugin.fileio import CheckpointError, load_checkpoint_file
    from ifn_plugin.models import IFN, IFNHead, PairEncoder
    from ifn_plugin.models.conversion import convert_state_dict, convert_to_opencd
    from ifn_plugin.utils.configurations import find_config, list_configs

make_loading_safe()

# imported when they are first used, so that the import of the package stays quick
_MODULES = {
    'apis.inferencer': ('ChangeDetector', 'ChangeMap', 'find_pairs'),
    'datasets': ('LEVIRCDDataset', ),
    'engine': ('accelerate', ),
    'evaluation': ('ChangeMetric', ),
    'fileio': ('CheckpointError', 'load_checkpoint_file'),
    'models': ('IFN', 'IFNHead', 'PairEncoder'),
    'models.conversion': ('convert_state_dict', 'convert_to_opencd'),
    'utils.configurations': ('find_config', 'list_configs'),
}

__all__ = [
    'CheckpointError', 'ChangeDetector', 'ChangeMap', 'ChangeMetric', 'IFN', 'IFNHead', 'LEVIRCDDataset', 'PairEncoder',
    'StackError', '__version__', 'accelerate', 'convert_state_dict', 'convert_to_opencd', 'datasets', 'engine',
    'evaluation', 'find_config', 'find_pairs', 'list_configs', 'load_checkpoint_file', 'models'
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f'{__name__}.{module}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
