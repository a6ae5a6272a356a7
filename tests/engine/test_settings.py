"""Hooks that are added to a configuration."""

import pytest
from mmengine.config import Config
from mmseg.registry import HOOKS

from ifn_plugin.engine import AccelerationHook, LoadedWeightsHook, ResumedSettingsHook
from ifn_plugin.engine.settings import add_acceleration, add_hooks


@pytest.mark.parametrize('settings, expected', [
    ({}, ['ifn_plugin.LoadedWeightsHook', 'ifn_plugin.ResumedSettingsHook']),
    (dict(default_hooks=None, custom_hooks=None), ['ifn_plugin.LoadedWeightsHook', 'ifn_plugin.ResumedSettingsHook']),
    (dict(default_hooks=dict(a=None, b=dict(type='ifn_plugin.LoadedWeightsHook')),
          custom_hooks=[dict(type='EMAHook')]), ['EMAHook', 'ifn_plugin.ResumedSettingsHook']),
    (dict(custom_hooks=[dict(type=ResumedSettingsHook), dict(type=LoadedWeightsHook)]),
     [ResumedSettingsHook, LoadedWeightsHook]),
])
def test_only_missing_hooks_are_added(settings, expected):
    cfg = Config(settings)
    add_hooks(cfg, LoadedWeightsHook, ResumedSettingsHook)
    assert [hook['type'] for hook in cfg.custom_hooks] == expected


def test_a_new_acceleration_hook_enables_only_what_is_requested():
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook')]))
    add_acceleration(cfg, dict(compile=True))
    assert [hook['type'] for hook in cfg.custom_hooks] == ['EMAHook', 'ifn_plugin.AccelerationHook']
    hook = AccelerationHook(**{name: value for name, value in cfg.custom_hooks[1].items() if name != 'type'})
    assert hook.settings == dict(channels_last=False, dtype='float32', compile=True, window_batch=1, keep_memory=False,
                                 tf32=False)
    assert not hook.fused and not hook.pin_memory


def test_a_new_acceleration_hook_enables_everything_on_request():
    cfg = Config()
    add_acceleration(cfg, dict(dtype='bfloat16'), everything=True)
    assert cfg.custom_hooks == [dict(type='ifn_plugin.AccelerationHook', dtype='bfloat16')]


@pytest.mark.parametrize('everything, expected', [
    (False, dict(dtype='bfloat16', compile=False, priority='LOW')), (True, dict(dtype='bfloat16', priority='LOW'))])
def test_the_configurations_acceleration_hook_is_changed_not_doubled(everything, expected):
    cfg = Config(dict(custom_hooks=[dict(type=AccelerationHook, dtype='float32', compile=False, priority='LOW')]))
    add_acceleration(cfg, dict(dtype='bfloat16'), everything)
    assert cfg.custom_hooks == [dict(type=AccelerationHook, **expected)]


def test_a_users_hook_in_mmsegs_registry_is_recognized(monkeypatch):
    monkeypatch.setitem(HOOKS.module_dict, 'OwnAcceleration', type('OwnAcceleration', (AccelerationHook, ), {}))
    cfg = Config(dict(default_scope='mmseg', custom_hooks=[dict(type='OwnAcceleration')]))
    add_acceleration(cfg, dict(compile=True))
    assert cfg.custom_hooks == [dict(type='OwnAcceleration', compile=True)]
