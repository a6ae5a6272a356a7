"""Optimizers that know what is frozen."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ifn_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, without the parameters that need no gradient.

    Without ``paramwise_cfg``, mmengine hands every parameter to the optimizer, frozen or not. The frozen ones would not
    change, but they would stand in every checkpoint's optimizer and in every count of what is trained.

    Raises:
        ValueError: If nothing is left to train.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        wrapper = super().__call__(model)
        for group in wrapper.optimizer.param_groups:
            for parameter in group['params']:
                if not parameter.requires_grad:
                    wrapper.optimizer.state.pop(parameter, None)  # Adagrad has made some already
            group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
        if not any(group['params'] for group in wrapper.optimizer.param_groups):
            raise ValueError(f'Every parameter of {type(model).__name__} is frozen: there is nothing to train.')
        return wrapper
