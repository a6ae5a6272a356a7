"""Optimizers of the trainable parameters only."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ifn_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """``DefaultOptimWrapperConstructor`` that leaves out frozen parameters.

    Without ``paramwise_cfg``, mmengine passes every parameter to the optimizer, frozen or not. The frozen ones would
    not change, but they would appear in the optimizer's state in every checkpoint and in counts of trained parameters.

    Raises:
        ValueError: If every parameter is frozen.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        wrapper = super().__call__(model)
        for group in wrapper.optimizer.param_groups:
            for parameter in group['params']:
                if not parameter.requires_grad:
                    wrapper.optimizer.state.pop(parameter, None)  # Adagrad creates state in its constructor
            group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
        if not any(group['params'] for group in wrapper.optimizer.param_groups):
            raise ValueError(f'Every parameter of {type(model).__name__} is frozen: there is nothing to train.')
        return wrapper
