"""Hook that refuses weights that do not fit."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ifn_plugin.engine.utils import detector_of, name_source
from ifn_plugin.models.conversion import load_weights
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class LoadedWeightsHook(Hook):
    """Refuse weights that do not fit, where mmengine warns and goes on with random ones.

    Weights of another project's IFN (open-cd's, CDLab's, the official DSIFN's) are converted.
    """

    priority = 'VERY_HIGH'  # before EMAHook takes what was loaded

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Load the weights, all of them.

        Raises:
            CheckpointError: If some are missing, of another shape, or unknown; the keys are named.
        """
        checkpoint['state_dict'] = load_weights(name_source(runner), checkpoint, detector_of(runner))
