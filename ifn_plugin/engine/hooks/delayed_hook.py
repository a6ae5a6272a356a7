"""Base class of hooks that do not wait for a GPU."""

from abc import abstractmethod
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner


class DelayedHook(Hook):
    """Base class of hooks that look at an iteration's outputs when the next one is queued.

    Before a checkpoint, a validation and the end, they look straight away.
    """

    @abstractmethod
    def look(self, runner: Runner) -> None:
        """Look at what is on its way, if anything is."""

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Look at what led to the checkpoint."""
        self.look(runner)
        super().before_save_checkpoint(runner, checkpoint)

    def before_val(self, runner: Runner) -> None:
        """Look before a validation takes its time."""
        self.look(runner)
        super().before_val(runner)

    def after_train(self, runner: Runner) -> None:
        """Look at the last iteration."""
        self.look(runner)
        super().after_train(runner)
