"""Hook that stops at a NaN or infinite loss."""

import math
from typing import Any

from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from ifn_plugin.engine.hooks.delayed_hook import DelayedHook
from ifn_plugin.engine.transfer import Transfer, transfer
from ifn_plugin.engine.utils import advise
from ifn_plugin.registry import HOOKS
from ifn_plugin.utils.samples import list_files


@HOOKS.register_module()
class InvalidLossHook(DelayedHook):
    """Stop at a NaN or infinite loss, and say where.

    On a GPU, the losses of an iteration are looked at after the next one, when it has computed them while the host was
    giving it work. The error names the iteration, levels and images of the invalid loss all the same; before a
    checkpoint, a validation and the end, they are looked at straight away.

    Args:
        patience: With loss scaling (``AmpOptimWrapper`` in float16), the iterations in a row with an invalid loss that
            are left to the scaler, which skips the step and scales less.
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
        """Look at the losses of the iteration before on a GPU, at these elsewhere.

        Raises:
            FloatingPointError: With the iteration, the levels, the images and the last checkpoint.
        """
        self.look(runner)
        losses = {name: value for name, value in (outputs or {}).items() if 'loss' in name}
        if losses:
            # a batch may be anything that its collate function gives
            samples = data_batch.get('data_samples') or [] if isinstance(data_batch, dict) else []
            files = [' and '.join(list_files(getattr(sample, 'img_path', 'unnamed'))) for sample in samples]
            self.pending = (runner.iter + 1, list(losses), files, transfer(losses))
            if self.pending[3].is_there():
                self.look(runner)

    def look(self, runner: Runner) -> None:
        """Look at the losses that are on their way.

        Raises:
            FloatingPointError: As ``after_train_iter``.
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
