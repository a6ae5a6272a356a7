"""Hooks."""

from ifn_plugin.engine.hooks.acceleration_hook import AccelerationHook
from ifn_plugin.engine.hooks.change_panel_hook import ChangePanelHook
from ifn_plugin.engine.hooks.checkpoint_hook import WholeCheckpointHook
from ifn_plugin.engine.hooks.evaluation_hook import EvaluationHook
from ifn_plugin.engine.hooks.invalid_loss_hook import InvalidLossHook
from ifn_plugin.engine.hooks.loaded_weights_hook import LoadedWeightsHook
from ifn_plugin.engine.hooks.resumed_settings_hook import ResumedSettingsHook
from ifn_plugin.engine.hooks.runtime_info_hook import DelayedRuntimeInfoHook

__all__ = [
    'AccelerationHook', 'ChangePanelHook', 'DelayedRuntimeInfoHook', 'EvaluationHook', 'InvalidLossHook',
    'LoadedWeightsHook', 'ResumedSettingsHook', 'WholeCheckpointHook'
]
