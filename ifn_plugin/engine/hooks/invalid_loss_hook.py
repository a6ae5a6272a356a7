"""Hook that stops at a NaN or infinite loss."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from ifn_plugin.engine.utils import advise
from ifn_plugin.registry import HOOKS
from ifn_plugin.utils.samples import list_files


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop as soon as the loss is not a number or infinite, and say where.

    Args:
        patience: With loss scaling (``AmpOptimWrapper`` in float16), the iterations in a row with an invalid loss that
            are left to the scaler, which skips the step and scales less.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, patience: int = 10) -> None:
        self.patience = patience
        self.invalid = 0

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Look at the losses.

        Raises:
            FloatingPointError: With the iteration, the levels, the images and the last checkpoint.
        """
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        # one look at a GPU, not one for each level
        finite = not losses or bool(torch.stack([value.isfinite().all() for value in losses.values()]).all())
        self.invalid = 0 if finite else self.invalid + 1
        wrapper = runner.optim_wrapper
        scaled = isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
        if self.invalid > (self.patience if scaled else 0):
            wrong = [f'{name}={float(value)}' for name, value in losses.items() if not value.isfinite()]
            # a batch may be anything that its collate function gives
            samples = data_batch.get('data_samples') or [] if isinstance(data_batch, dict) else []
            files = [' and '.join(list_files(getattr(sample, 'img_path', 'unnamed'))) for sample in samples]
            raise FloatingPointError(f'Iteration {runner.iter + 1}: {", ".join(wrong)}, from the pairs '
                                     f'{"; ".join(files) or "of a batch without names"}. {advise(runner)}')
