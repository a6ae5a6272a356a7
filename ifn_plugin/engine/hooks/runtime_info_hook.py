"""``RuntimeInfoHook`` that does not wait for the GPU."""

from typing import Any

from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from ifn_plugin.engine.hooks.delayed_hook import DelayedHook
from ifn_plugin.engine.transfer import Transfer, transfer
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class DelayedRuntimeInfoHook(DelayedHook, RuntimeInfoHook):
    """``RuntimeInfoHook`` that, on a GPU, stores the losses of an iteration one iteration later.

    mmengine's hook copies each loss to the host at once: it blocks until the GPU has finished all queued work, and the
    GPU then idles until the next iteration is queued. Nothing is delayed in iterations that are logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pending: tuple[list[str], Transfer] | None = None

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Store the losses: on a GPU those of the previous iteration, otherwise those of this one."""
        self.process_pending(runner)
        if not outputs:
            return
        self.pending = (list(outputs), transfer(outputs))
        if self.pending[1].is_there() or self._is_logged(runner, batch_idx):
            self.process_pending(runner)

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        return self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, hook.interval) for hook in loggers)

    def process_pending(self, runner: Runner) -> None:
        """Store the pending losses."""
        if self.pending is not None:
            names, values = self.pending
            self.pending = None
            super().after_train_iter(runner, 0, None, dict(zip(names, values.get().tolist())))
