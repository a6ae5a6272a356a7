"""Configurations of the runs of a comparison: the protocol with the model of another configuration."""

from pprint import pformat
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.registry import HOOKS, METRICS, MODELS, WEIGHT_INITIALIZERS

from ifn_plugin.engine import EvaluationHook
from ifn_plugin.evaluation import ChangeMetric
from ifn_plugin.utils.configurations import detector_settings, is_type, registry_of


def check_protocol(protocol: Config) -> None:
    """Check, before hours of training, that the runs will leave a record of their test.

    Raises:
        ValueError: If they will not, with the missing setting.
    """
    hooks = [*(protocol.get('default_hooks') or {}).values(), *(protocol.get('custom_hooks') or [])]
    if not any(is_type(hook.get('type'), registry_of(protocol, HOOKS), EvaluationHook) for hook in hooks if hook):
        raise ValueError(f'{protocol.filename} keeps no record of tests: add default_hooks=dict(evaluation=dict(type='
                         "'ifn_plugin.EvaluationHook')).")
    metrics, registry = _list_metrics(protocol.get('test_evaluator') or []), registry_of(protocol, METRICS)
    if not any(is_type(metric.get('type'), registry, ChangeMetric) for metric in metrics):
        raise ValueError(f'{protocol.filename} has no scores to compare: set '
                         "test_evaluator=dict(type='ifn_plugin.ChangeMetric').")


def _list_metrics(evaluator: Any) -> list[dict[str, Any]]:
    if isinstance(evaluator, dict):
        return _list_metrics(evaluator['metrics']) if evaluator.get('metrics') else [evaluator]
    return [metric for part in evaluator for metric in _list_metrics(part)]


def combine(protocol: Config, config: Config, seed: int, from_scratch: bool = False) -> Config:
    """Combine a protocol with the model of another configuration.

    Args:
        protocol: Configuration of everything but the model.
        config: Configuration of the model.
        seed: Seed of the run.
        from_scratch: Remove ``pretrained`` and ``init_cfg`` from the model, and freeze nothing.

    Returns:
        The configuration of the run.

    Raises:
        ValueError: If ``config`` has no model.
    """
    settings = protocol.to_dict()
    model = detector_settings(config).to_dict()
    _simplify(model, from_scratch)
    preprocessor = model.get('data_preprocessor') or {}
    if preprocessor.get('size'):
        # it is the size of the configuration's own crops: the protocol's would be padded to it. mmseg's preprocessor
        # needs either size or size_divisor.
        preprocessor['size'] = None
        preprocessor['size_divisor'] = preprocessor.get('size_divisor') or 1
    # a configuration may have sliding windows of its own, but validation too has to be the same for all models
    protocols = (settings.get('test_cfg') or {}).get('protocols') or {}
    model['test_cfg'] = protocols.get('whole') or next(iter(protocols.values()), dict(mode='whole'))
    imports: list[str] = []
    for cfg in (protocol, config):
        names = (cfg.get('custom_imports') or {}).get('imports', [])
        imports += [names] if isinstance(names, str) else names
    settings.update(
        model=model,
        default_scope=config.get('default_scope') or 'mmseg',
        custom_imports=dict(imports=list(dict.fromkeys(imports))),
        randomness=dict(settings.get('randomness') or {}, seed=seed))
    return Config(settings)


def describe_settings(run: Config, protocol_only: bool = False) -> str:
    """Return the settings of a run but its seed, or those that come from the protocol, as a text to compare."""
    settings = run.to_dict()
    for key in ('model', 'default_scope', 'custom_imports') if protocol_only else ():
        settings.pop(key, None)
    settings.get('randomness', {}).pop('seed', None)
    return pformat(settings)  # whose keys are sorted, and NaN equals NaN


def _simplify(settings: Any, from_scratch: bool) -> None:
    if isinstance(settings, (list, tuple)):
        for value in settings:
            _simplify(value, from_scratch)
    elif isinstance(settings, dict):
        if is_type(settings.get('type'), MODELS, torch.nn.SyncBatchNorm):
            settings['type'] = 'BN'  # a run is one process, and SyncBN does not work on a CPU
        if from_scratch and 'pretrained' in settings:
            settings['pretrained'] = False if isinstance(settings['pretrained'], bool) else None
        if from_scratch and 'init_cfg' in settings:
            settings['init_cfg'] = _without_pretrained(settings['init_cfg'])
        if from_scratch and settings.get('frozen') is True:
            settings['frozen'] = False
        if from_scratch and 'frozen_stages' in settings:
            settings['frozen_stages'] = -1
        for value in settings.values():
            _simplify(value, from_scratch)


def _without_pretrained(init_cfg: Any) -> Any:
    if isinstance(init_cfg, (list, tuple)):
        return [cfg for cfg in init_cfg if not _is_pretrained(cfg)] or None
    return None if init_cfg and _is_pretrained(init_cfg) else init_cfg


def _is_pretrained(init_cfg: dict[str, Any]) -> bool:
    return is_type(init_cfg.get('type'), WEIGHT_INITIALIZERS, PretrainedInit)
