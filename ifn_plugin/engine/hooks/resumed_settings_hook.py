"""Hook that compares the settings in a checkpoint with the configuration."""

import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from ifn_plugin.engine.utils import name_source
from ifn_plugin.fileio import CheckpointError
from ifn_plugin.registry import HOOKS

# Entries of a parameter group that do not affect the result: its parameters, and how torch computes a step
_NO_SETTINGS = ('params', 'foreach', 'fused', 'capturable', 'differentiable')

# Arguments of a schedule that are not settings: its progress and its verbosity
_STATE = ('last_step', 'verbose')


@HOOKS.register_module()
class ResumedSettingsHook(Hook):
    """Warn if a resumed run uses settings of the optimizer or of schedules that differ from the configuration.

    mmengine takes them from the checkpoint, even if the configuration has changed since.

    Raises:
        CheckpointError: If the checkpoint is of another optimizer, which torch notices only in the first step.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the checkpoint with the optimizer and schedules just built from the configuration."""
        if not runner._resume or not isinstance(runner.optim_wrapper, OptimWrapper):
            return
        if faults := list(_compare_kinds(runner.optim_wrapper, checkpoint.get('optimizer'))):
            raise CheckpointError(f'{name_source(runner)} is of another optimizer: {faults[0]}. Fix: to go on with '
                                  'this one, start a new run from these weights with load_from=CHECKPOINT, without '
                                  '--resume.')
        faults = [*_compare_optimizers(runner.optim_wrapper, checkpoint.get('optimizer')),
                  *_compare_schedules(runner.param_schedulers, checkpoint.get('param_schedulers'))]
        if faults:
            print_log(
                f'Resumed from {name_source(runner)}, whose settings of optimizer and learning rate schedule override '
                f'the configuration: {"; ".join(faults)}. Fix: to use the configuration, start a new run from these '
                'weights with load_from=CHECKPOINT, without --resume.', 'current', logging.WARNING)


def _groups(wrapper: Any, states: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the place and the settings, in the checkpoint and in the configuration, of each parameter group."""
    several = isinstance(wrapper, OptimWrapperDict)
    for name, one in wrapper.items() if several else [('', wrapper)]:
        groups = ((states or {}).get(name, {}) if several else states or {}).get('param_groups', [])
        # torch itself rejects a different number of groups
        for ours, theirs in zip(one.param_groups, groups):
            yield f'{name}.optimizer' if several else 'optimizer', _group_settings(theirs), _group_settings(ours)


def _compare_kinds(wrapper: Any, states: Any) -> Iterator[str]:
    for place, loaded, configured in _groups(wrapper, states):
        before, now = sorted(loaded.keys() - configured), sorted(configured.keys() - loaded)
        if before and now:  # a newer torch may only have more
            yield f'{place} has {", ".join(before)} (configuration: {", ".join(now)})'


def _compare_optimizers(wrapper: Any, states: Any) -> Iterator[str]:
    # groups that differ alike are reported once
    yield from dict.fromkeys(fault for group in _groups(wrapper, states) for fault in _compare(*group))


def _group_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a parameter group, as they were before a schedule changed them."""
    settings = {name: group.get(f'initial_{name}', value) for name, value in group.items()
                if name not in _NO_SETTINGS and not name.startswith('initial_')}
    if 'initial_momentum' in group and 'betas' in group:  # as schedules of Adam's momentum set it
        settings['betas'] = (group['initial_momentum'], *group['betas'][1:])
    return settings


def _compare_schedules(schedules: Any, states: Any) -> Iterator[str]:
    if isinstance(schedules, dict):  # several optimizers
        for name, several in schedules.items():
            yield from _compare_schedules(several, (states or {}).get(name))
        return
    ours, theirs = schedules or [], states or []
    if len(ours) != len(theirs):
        yield f'{len(theirs)} schedules (configuration: {len(ours)})'
    for number, (schedule, state) in enumerate(zip(ours, theirs)):
        names = {name for kind in type(schedule).__mro__ for name in inspect.signature(kind).parameters}
        settings = {name: value for name, value in schedule.state_dict().items()
                    if name in names and name not in _STATE}
        yield from _compare(f'param_scheduler[{number}]', {name: state.get(name) for name in settings}, settings)


def _compare(place: str, loaded: Mapping[str, Any], configured: Mapping[str, Any]) -> Iterator[str]:
    for name in [name for name in configured if name in loaded]:
        before, now = (list(value) if isinstance(value, tuple) else value
                       for value in (loaded[name], configured[name]))
        if before != now:
            yield f'{place}.{name} {before} (configuration: {now})'
