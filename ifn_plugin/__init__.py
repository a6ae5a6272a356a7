"""IFN, the deeply supervised image fusion network for change detection, as a plugin for open-cd and mmsegmentation.

``custom_imports = dict(imports=['ifn_plugin'])`` in a configuration makes ``ifn_plugin.IFN``, ``ifn_plugin.IFNHead``
and the rest available under their scope, and makes the loading of checkpoints safe.
"""

from ifn_plugin.utils.stack import StackError, check_stack
from ifn_plugin.version import __version__

check_stack()

from ifn_plugin import datasets, engine, evaluation, models  # noqa: E402
from ifn_plugin.fileio.checkpoint import make_loading_safe  # noqa: E402

make_loading_safe()

__all__ = ['StackError', '__version__', 'datasets', 'engine', 'evaluation', 'models']
