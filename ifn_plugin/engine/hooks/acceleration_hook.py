"""Hook that accelerates training and inference."""

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmengine.utils import apply_to
from torch import Tensor

from ifn_plugin.engine.acceleration import accelerate
from ifn_plugin.engine.cuda import can_fuse, copy_without_waiting, pin_batches, set_fused
from ifn_plugin.engine.utils import detector_of
from ifn_plugin.registry import HOOKS
from ifn_plugin.utils.settings import check_switches


@HOOKS.register_module()
class AccelerationHook(Hook):
    """Enable channels-last maps, mixed precision, compilation, batches of windows and what a GPU offers besides.

    ``custom_hooks=[dict(type='ifn_plugin.AccelerationHook')]`` enables all that the machine supports; each argument
    controls one of them. Checkpoints are the same with and without the hook. Mixed precision in bfloat16 needs nothing
    else; to train in float16, ``optim_wrapper.type`` has to be ``'AmpOptimWrapper'``, which scales the loss.

    Args:
        channels_last: See ``accelerate``.
        dtype: See ``accelerate``.
        compile: See ``accelerate``.
        window_batch: See ``accelerate``.
        keep_memory: See ``accelerate``.
        tf32: See ``accelerate``.
        fused: On a CUDA GPU, let Adam and AdamW take their steps in one kernel, unless the optimizer's settings have
            ``fused`` or ``foreach``.
        pin_memory: On a CUDA GPU, let data loaders put batches into pinned memory, and queue their copies to the GPU
            behind its kernels. mmengine's own loop by iterations has begun to load by then: its loader needs
            ``pin_memory=True`` in its settings.

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
                 keep_memory: bool = True,
                 tf32: bool = True,
                 fused: bool = True,
                 pin_memory: bool = True) -> None:
        check_switches(fused=fused, pin_memory=pin_memory)
        self.settings = dict(
            channels_last=channels_last,
            dtype=dtype,
            compile=compile,
            window_batch=window_batch,
            keep_memory=keep_memory,
            tf32=tf32)
        self.fused, self.pin_memory = fused, pin_memory
        self.switched_fused = False
        self.precision: torch.dtype | None = None

    def before_run(self, runner: Runner) -> None:
        """Accelerate the runner's model, once."""
        if self.precision is not None:
            return
        self.precision = accelerate(detector_of(runner), **self.settings)  # type: ignore[arg-type]
        if self._pins():
            copy_without_waiting(detector_of(runner))
        runner.logger.info(f'AccelerationHook: {self.settings}, computing in {self.precision}')

    def before_train(self, runner: Runner) -> None:
        """Reject settings that would train wrongly, lay out a resumed optimizer's state as the weights, and fuse it."""
        if self._pins():
            pin_batches(runner.train_dataloader)
        if self.precision == torch.float16 and not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            raise ValueError("AccelerationHook(dtype='float16') needs loss scaling to train: set "
                             "optim_wrapper.type='AmpOptimWrapper', or dtype='bfloat16'.")
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        optimizers = [single.optimizer for single in wrappers]
        if self.fused and can_fuse(optimizers):
            self.switched_fused = True
            for optimizer in optimizers:
                set_fused(optimizer)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                # torch pairs the values in memory order, and gradients may have another layout than weights
                on_cpu = any(parameter.device.type == 'cpu' for parameter in group['params'])
                if group.get('fused') and self.settings['channels_last'] and on_cpu:
                    raise ValueError("torch's fused optimizers take wrong steps on a CPU with channels-last weights: "
                                     'leave out optim_wrapper.optimizer.fused, or set '
                                     'AccelerationHook(channels_last=False).')
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def before_val(self, runner: Runner) -> None:
        """Pin the batches."""
        if self._pins():
            pin_batches(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Pin the batches."""
        if self._pins():
            pin_batches(runner.test_dataloader)

    def _pins(self) -> bool:
        return self.pin_memory and get_device() == 'cuda'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the weights and the optimizer's state in the layout that they have without the hook."""
        for name in ('state_dict', 'ema_state_dict'):
            weights = checkpoint.get(name, {})
            weights.update(apply_to(dict(weights), torch.is_tensor, Tensor.contiguous))  # keeps the modules' versions
        if 'optimizer' in checkpoint:
            checkpoint['optimizer'] = apply_to(checkpoint['optimizer'], torch.is_tensor, Tensor.contiguous)
        if self.switched_fused and 'optimizer' in checkpoint:
            stored = checkpoint['optimizer']
            for optimizer in [stored] if 'param_groups' in stored else stored.values():
                # another device, or a run without the hook, may go on from here
                optimizer['param_groups'] = [dict(group, fused=None) for group in optimizer['param_groups']]
