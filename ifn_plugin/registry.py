"""Registries of the scope ``ifn_plugin``, children of mmengine's root registries.

With a scope of its own, the plugin leaves open-cd's ``IFN`` untouched, and ``type='ifn_plugin.IFN'`` can be built from
any scope.
"""

from mmengine import registry as root

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'TRANSFORMS'
]


def _child(parent: root.Registry, package: str) -> root.Registry:
    return root.Registry(parent.name, parent=parent, scope='ifn_plugin', locations=[f'ifn_plugin.{package}'])


DATASETS = _child(root.DATASETS, 'datasets')
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'engine')
HOOKS = _child(root.HOOKS, 'engine')
LOOPS = _child(root.LOOPS, 'engine')
METRICS = _child(root.METRICS, 'evaluation')
MODELS = _child(root.MODELS, 'models')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets')
