"""IFN, the deeply supervised image fusion network for change detection, as a plugin for open-cd and mmsegmentation.

``custom_imports = dict(imports=['ifn_plugin'])`` in a configuration makes ``ifn_plugin.IFN``, ``ifn_plugin.IFNHead``
and the rest available under their scope, and makes the loading of checkpoints safe.
"""

from ._stack import StackError, check_stack
from .version import __version__

check_stack()

from . import acceleration, checkpoint, data, evaluation, loading, models, optim, samplers, training, visualization  # noqa: E402

checkpoint.make_loading_safe()

__all__ = [
    'StackError', '__version__', 'acceleration', 'checkpoint', 'data', 'evaluation', 'loading', 'models', 'optim',
    'samplers', 'training', 'visualization'
]
