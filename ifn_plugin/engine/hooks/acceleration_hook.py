"""Hook that accelerates training and inference."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from ifn_plugin.engine.acceleration import accelerate
from ifn_plugin.engine.utils import detector_of
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class AccelerationHook(Hook):
    """Enable channels-last maps, mixed precision, compilation and batches of windows in training, validation and tests.

    ``custom_hooks=[dict(type='ifn_plugin.AccelerationHook')]`` enables all that the machine supports; each argument
    controls one of them. Checkpoints are the same with and without the hook. Mixed precision in bfloat16 needs nothing
    else; to train in float16, ``optim_wrapper.type`` has to be ``'AmpOptimWrapper'``, which scales the loss.

    Args:
        channels_last: See ``accelerate``.
        dtype: See ``accelerate``.
        compile: See ``accelerate``.
        window_batch: See ``accelerate``.
        keep_memory: See ``accelerate``.

    Raises:
        ValueError: If training starts in float16 without loss scaling, or with a fused optimizer on channels-last
            weights on a CPU; and as in ``accelerate``.
    """

    # after mmengine's EMAHook, which swaps the weights to be saved
    priority = 'LOW'

    def __init__(self,
                 channels_last: bool = True,
                 dtype: str = 'auto',
                 compile: bool | dict[str, Any] = True,
                 window_batch: int = 8,
                 keep_memory: bool = True) -> None:
        self.settings = dict(
            channels_last=channels_last,
            dtype=dtype,
            compile=compile,
            window_batch=window_batch,
            keep_memory=keep_memory)
        self.precision: torch.dtype | None = None

    def before_run(self, runner: Runner) -> None:
        """Accelerate the runner's model, once."""
        if self.precision is not None:
            return
        self.precision = accelerate(detector_of(runner), **self.settings)  # type: ignore[arg-type]
        runner.logger.info(f'AccelerationHook: {self.settings}, computing in {self.precision}')

    def before_train(self, runner: Runner) -> None:
        """Reject settings that would train wrongly, and give a resumed optimizer's state the layout of the weights."""
        if self.precision == torch.float16 and not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            raise ValueError("AccelerationHook(dtype='float16') needs loss scaling to train: set "
                             "optim_wrapper.type='AmpOptimWrapper', or dtype='bfloat16'.")
        wrapper = runner.optim_wrapper
        for single in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            optimizer = single.optimizer
            for group in optimizer.param_groups:
                # torch pairs the values in memory order, and gradients may have another layout than weights
                if group.get('fused') and self.settings['channels_last'] and group['params'][0].device.type == 'cpu':
                    raise ValueError("torch's fused optimizers take wrong steps on a CPU with channels-last weights: "
                                     'leave out optim_wrapper.optimizer.fused, or set '
                                     'AccelerationHook(channels_last=False).')
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the weights and the optimizer's state in the layout that they have without the hook."""
        for name in ('state_dict', 'ema_state_dict', 'optimizer'):
            if name in checkpoint:
                checkpoint[name] = _contiguous(checkpoint[name])


def _contiguous(state: Any) -> Any:
    """Copy nested containers with every tensor made contiguous; tensors that already are contiguous are shared."""
    if isinstance(state, Tensor):
        return state.contiguous()
    if isinstance(state, dict):
        return type(state)((key, _contiguous(value)) for key, value in state.items())
    return [_contiguous(value) for value in state] if isinstance(state, list) else state
