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

from ifn_plugin.utils.stack import StackError, check_stack
from ifn_plugin.version import __version__

check_stack()

# only now, since what they import may be missing or too old, which the check explains
from ifn_plugin import datasets, engine, evaluation, models  # noqa: E402
from ifn_plugin.apis.inferencer import ChangeDetector, ChangeMap, find_pairs  # noqa: E402
from ifn_plugin.datasets import LEVIRCDDataset  # noqa: E402
from ifn_plugin.engine import accelerate  # noqa: E402
from ifn_plugin.evaluation import ChangeMetric  # noqa: E402
from ifn_plugin.fileio import CheckpointError, load_checkpoint_file, make_loading_safe  # noqa: E402
from ifn_plugin.models import IFN, IFNHead, PairEncoder  # noqa: E402
from ifn_plugin.models.conversion import convert_state_dict, convert_to_opencd  # noqa: E402
from ifn_plugin.utils.configurations import find_config, list_configs  # noqa: E402

make_loading_safe()

__all__ = [
    'CheckpointError', 'ChangeDetector', 'ChangeMap', 'ChangeMetric', 'IFN', 'IFNHead', 'LEVIRCDDataset', 'PairEncoder',
    'StackError', '__version__', 'accelerate', 'convert_state_dict', 'convert_to_opencd', 'datasets', 'engine',
    'evaluation', 'find_config', 'find_pairs', 'list_configs', 'load_checkpoint_file', 'models'
]
