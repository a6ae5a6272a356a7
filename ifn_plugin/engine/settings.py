"""Hooks in the settings of a configuration."""

from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ifn_plugin.engine.hooks import AccelerationHook
from ifn_plugin.utils.configurations import is_type, registry_of


def add_hooks(cfg: Config, *kinds: type[Hook]) -> None:
    """Add hooks of the plugin to a configuration, unless it has them already."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    missing = [kind for kind in kinds if not any(_is_hook(hook, kind, cfg) for hook in hooks)]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []),
                        *(dict(type=f'ifn_plugin.{kind.__name__}') for kind in missing)]


def add_acceleration(cfg: Config, settings: dict[str, Any], everything: bool = False) -> None:
    """Add acceleration to a configuration, in the :class:`AccelerationHook` that it has or in a new one.

    Args:
        cfg: The configuration.
        settings: Arguments of the hook to set.
        everything: Whether to set the other arguments to their defaults, which enable all that the machine supports.
            Otherwise they stay as they are; a new hook has them switched off.
    """
    hooks = list(cfg.get('custom_hooks') or [])
    ours = [hook for hook in hooks if _is_hook(hook, AccelerationHook, cfg)]
    if not ours:
        ours = [dict(type='ifn_plugin.AccelerationHook')]
        hooks += ours
        if not everything:
            ours[0].update(channels_last=False, dtype='float32', compile=False, window_batch=1, keep_memory=False,
                           tf32=False, fused=False, pin_memory=False)
    elif everything:
        for name in ours[0].keys() - {'type', 'priority'}:
            del ours[0][name]
    ours[0].update(settings)
    cfg.custom_hooks = hooks


def _is_hook(hook: Any, kind: type[Hook], cfg: Config) -> bool:
    """Return whether a hook, or the settings of one, is of this class."""
    if isinstance(hook, Hook):
        return isinstance(hook, kind)
    return hook is not None and is_type(hook.get('type'), registry_of(cfg, HOOKS), kind)
