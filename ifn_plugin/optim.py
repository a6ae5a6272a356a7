"""Optimizers that know what is frozen, and autocast on devices where mmengine has none."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner import autocast
from torch import nn

from .registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


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
            group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
        if not any(group['params'] for group in wrapper.optimizer.param_groups):
            raise ValueError(f'Every parameter of {type(model).__name__} is frozen: there is nothing to train.')
        return wrapper


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Train under bfloat16 autocast, on a CPU too, where mmengine's ``AmpOptimWrapper`` needs a GPU.

    bfloat16 has float32's range, so there is no loss scaling. On a device without it, training stays in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[Any]:
        device = get_device()
        able = device == 'cpu' or (device == 'cuda' and torch.cuda.is_bf16_supported())
        with super().optim_context(model), autocast(dtype=torch.bfloat16) if able else nullcontext():
            yield
