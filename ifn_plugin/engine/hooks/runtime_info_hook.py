"""mmengine's hook for the log's figures, without waiting for a GPU."""

from typing import Any

from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from ifn_plugin.engine.hooks.delayed_hook import DelayedHook
from ifn_plugin.engine.transfer import Transfer, transfer
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class DelayedRuntimeInfoHook(DelayedHook, RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, which on a GPU stores an iteration's losses for the log one iteration later.

    mmengine's copies each loss to the host at once: it waits until the GPU has computed all that was queued, and then
    lets it wait for the next iteration. When the log is due, nothing is delayed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pending: tuple[list[str], Transfer] | None = None

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Store the losses of the iteration before on a GPU, these elsewhere."""
        self.look(runner)
        if not outputs:
            return
        self.pending = (list(outputs), transfer(outputs))
        if self.pending[1].is_there() or self._is_logged(runner, batch_idx):
            self.look(runner)

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        return self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, hook.interval) for hook in loggers)

    def look(self, runner: Runner) -> None:
        """Store what is on its way."""
        if self.pending is not None:
            names, values = self.pending
            self.pending = None
            super().after_train_iter(runner, 0, None, dict(zip(names, values.get().tolist())))
