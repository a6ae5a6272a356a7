"""Base class of hooks that do not wait for the GPU."""

from abc import abstractmethod
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner


class DelayedHook(Hook):
    """Base class of hooks that process the outputs of an iteration once the next one is queued.

    Before a checkpoint, before a validation and at the end of training, they process them immediately.
    """

    @abstractmethod
    def process_pending(self, runner: Runner) -> None:
        """Process the pending outputs, if there are any."""

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Process the outputs of the iteration before the checkpoint."""
        self.process_pending(runner)
        super().before_save_checkpoint(runner, checkpoint)

    def before_val(self, runner: Runner) -> None:
        """Process the pending outputs before a validation, which takes time."""
        self.process_pending(runner)
        super().before_val(runner)

    def after_train(self, runner: Runner) -> None:
        """Process the outputs of the last iteration."""
        self.process_pending(runner)
        super().after_train(runner)
