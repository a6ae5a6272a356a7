"""Hook that stops at a NaN or infinite loss."""

import math
from typing import Any

from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from ifn_plugin.engine.hooks.delayed_hook import DelayedHook
from ifn_plugin.engine.transfer import Transfer, transfer
from ifn_plugin.engine.utils import advise
from ifn_plugin.registry import HOOKS
from ifn_plugin.utils.samples import sample_files


@HOOKS.register_module()
class InvalidLossHook(DelayedHook):
    """Stop at a NaN or infinite loss, and name its iteration, levels and images.

    On a GPU, the losses of an iteration are checked after the next one has been queued, so that the host does not wait
    for them. The error still names the iteration, levels and images of the invalid loss. Before a checkpoint, before a
    validation and at the end of training, they are checked immediately.

    Args:
        patience: With loss scaling (``AmpOptimWrapper`` in float16), number of consecutive iterations with an invalid
            loss that are left to the scaler, which skips the step and reduces the scale.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, patience: int = 10) -> None:
        self.patience = patience
        self.invalid = 0
        self.pending: tuple[int, list[str], list[str], Transfer] | None = None

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Check the losses: on a GPU those of the previous iteration, otherwise those of this one.

        Raises:
            FloatingPointError: If a loss is NaN or infinite; the message names the iteration, the levels, the images
                and the last checkpoint.
        """
        self.process_pending(runner)
        losses = {name: value for name, value in (outputs or {}).items() if 'loss' in name}
        if losses:
            # the collate function decides what a batch is
            samples = data_batch.get('data_samples') or [] if isinstance(data_batch, dict) else []
            files = [' and '.join(sample_files(getattr(sample, 'img_path', 'unnamed'))) for sample in samples]
            self.pending = (runner.iter + 1, list(losses), files, transfer(losses))
            if self.pending[3].is_there():
                self.process_pending(runner)

    def process_pending(self, runner: Runner) -> None:
        """Check the pending losses.

        Raises:
            FloatingPointError: As in ``after_train_iter``.
        """
        if self.pending is None:
            return
        iteration, names, files, arriving = self.pending
        self.pending = None
        values = dict(zip(names, arriving.get().tolist()))
        wrong = [f'{name}={value}' for name, value in values.items() if not math.isfinite(value)]
        self.invalid = self.invalid + 1 if wrong else 0
        wrapper = runner.optim_wrapper
        scaled = isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
        if self.invalid > (self.patience if scaled else 0):
            raise FloatingPointError(f'Iteration {iteration}: {", ".join(wrong)}, from the pairs '
                                     f'{"; ".join(files) or "of a batch without names"}. {advise(runner)}')
