"""Training and testing: hooks, loops, samplers, optimizers, acceleration."""

from ifn_plugin.engine.acceleration import accelerate
from ifn_plugin.engine.hooks import (
    AccelerationHook,
    ChangePanelHook,
    DelayedRuntimeInfoHook,
    EvaluationHook,
    InvalidLossHook,
    LoadedWeightsHook,
    ResumedSettingsHook,
    WholeCheckpointHook,
)
from ifn_plugin.engine.loops import ProtocolsTestLoop, ResumableTrainLoop
from ifn_plugin.engine.optimizers import TrainableOptimWrapperConstructor
from ifn_plugin.engine.samplers import ResumableBatchSampler

__all__ = [
    'AccelerationHook', 'ChangePanelHook', 'DelayedRuntimeInfoHook', 'EvaluationHook', 'InvalidLossHook',
    'LoadedWeightsHook', 'ProtocolsTestLoop', 'ResumableBatchSampler', 'ResumableTrainLoop', 'ResumedSettingsHook',
    'TrainableOptimWrapperConstructor', 'WholeCheckpointHook', 'accelerate'
]
