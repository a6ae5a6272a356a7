"""Hook that rejects weights that do not fit the model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from ifn_plugin.engine.utils import detector_of, name_source
from ifn_plugin.models.conversion import load_weights
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class LoadedWeightsHook(Hook):
    """Reject weights that do not fit the model; mmengine only warns and continues with random ones.

    Weights of IFN from another project (open-cd, CDLab, the official DSIFN) are converted.
    """

    priority = 'VERY_HIGH'  # before EMAHook copies the loaded weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Load the weights strictly.

        Raises:
            CheckpointError: If weights are missing, unexpected or of another shape; the keys are named.
        """
        tests = isinstance(getattr(runner, '_test_loop', None), BaseLoop)  # its property would build one
        checkpoint['state_dict'] = load_weights(name_source(runner), checkpoint, detector_of(runner), not tests)
