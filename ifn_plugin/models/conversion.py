"""Conversion of IFN's weights between the plugin and other projects."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ifn_plugin.fileio import CheckpointError
from ifn_plugin.fileio.checkpoint import get_state_dict
from ifn_plugin.models.backbones.pretrained import list_misfits


def load_weights(source: str | Path, checkpoint: Mapping[str, Any], model: torch.nn.Module,
                 spread: bool = True) -> dict[str, Tensor]:
    """Load all weights of a detector, converting those of another project's IFN.

    Args:
        source: File or URL of the checkpoint, for messages.
        checkpoint: The checkpoint.
        model: The detector.
        spread: Whether the weights of an RGB detector may be spread over other bands, to train on.

    Returns:
        The loaded weights, without the preprocessor's constants, which the configuration sets.

    Raises:
        CheckpointError: If weights are missing, mismatched in shape or unknown; the message names the keys.
    """
    from ifn_plugin.models.decode_heads.ifn_head import IFNHead

    state = get_state_dict(checkpoint)
    project = recognize(state)
    if project in _PROJECTS and isinstance(getattr(model, 'decode_head', None), IFNHead):
        print_log(f'Converting {source}, the weights of {project}', 'current')
        try:
            state, project = convert_state_dict(state), None
        except ValueError as error:
            raise CheckpointError(f'{source}: {error}') from error
    for key in [key for key in state if key.startswith('data_preprocessor.')]:
        del state[key]
    own = model.state_dict()
    rgb = [key for key, value in state.items() if key in own and torch.is_tensor(value) and value.shape[1:2] == (3, )]
    misfits = list_misfits({key: state[key] for key in rgb}, {key: own[key] for key in rgb})
    if misfits and not spread:
        raise CheckpointError(f'{source} does not fit the configuration: {misfits}.')
    try:
        model.load_state_dict(state)  # torch must judge, since modules may update former names and shapes themselves
    except RuntimeError as error:
        misfits = list_misfits(state, own) or str(error)
        fix = f' Fix: convert it, {project}, with ifn_plugin.tools.convert_checkpoint.' if project in _PROJECTS else ''
        raise CheckpointError(f'{source} does not fit the configuration: {misfits}.{fix}') from error
    return state


@dataclass(frozen=True)
class _Project:
    """Module names of another implementation of IFN."""

    encoders: tuple[str, str]
    spatial: str
    wrapper: str

    @cached_property
    def names(self) -> dict[str, str]:
        """Map of its module names to the plugin's."""
        names = {f'{encoder}.features.{index}': f'backbone.features.{index}'
                 for encoder in self.encoders for index in range(30)}
        for number in range(1, 6):  # coarse to fine
            level = f'decode_head.levels.{number - 1}'
            blocks = 2 if number == 1 else 3
            names |= {f'o{number}_conv{block + 1}.{part}': f'{level}.blocks.{block}.{part}'
                      for block in range(blocks) for part in range(3)}
            names |= {
                f'bn_sa{number}': f'{level}.norm',
                f'sa{number}.{self.spatial}': f'{level}.spatial_attention.conv',
                f'o{number}_conv{blocks + 1}{self.wrapper}': f'{level}.logit',
            }
            if number > 1:
                names |= {f'ca{number}.{layer}{self.wrapper}': f'{level}.channel_attention.{layer}'
                          for layer in ('fc1', 'fc2')}
            if number < 5:
                names[f'trans_conv{number}'] = f'decode_head.levels.{number}.upsample'
        return names

    @property
    def unused(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its parameters and buffers that are never used."""
        shapes: dict[str, tuple[int, ...]] = {
            f'ca1.fc1{self.wrapper}.weight': (128, 1024, 1, 1), f'ca1.fc2{self.wrapper}.weight': (1024, 128, 1, 1)}
        for norm, channels in (('bn_ca1', 1024), ('bn_ca2', 1536)):
            shapes |= {f'{norm}.{name}': (channels, ) for name in ('weight', 'bias', 'running_mean', 'running_var')}
            shapes[f'{norm}.num_batches_tracked'] = ()
        return shapes

_PROJECTS = {
    "open-cd's IFN": _Project(('encoder1', 'encoder2'), 'conv.seq.1', '.seq.0'),  # and CDLab's
    'the official DSIFN': _Project(('t1_base', 't2_base'), 'conv1', ''),
}


@lru_cache
def _detector_weights() -> dict[str, Tensor]:
    """Return the names and shapes of a detector's weights, as meta tensors."""
    from ifn_plugin.models.backbones.ifn import IFN
    from ifn_plugin.models.decode_heads.ifn_head import IFNHead

    with torch.device('meta'):
        detector = torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead()))
    return dict(detector.state_dict())


def recognize(state_dict: Mapping[str, Any]) -> str | None:
    """Return the project of IFN's weights: ``'ifn_plugin'``, another's name, or ``None`` if they are no known IFN's."""
    keys = {key.removeprefix('backbone.') for key in get_state_dict(state_dict)}
    if any(key.startswith(('decode_head.levels.', 'features.')) for key in keys):
        return 'ifn_plugin'
    for name, project in _PROJECTS.items():
        if any(key.startswith(f'{project.encoders[0]}.features.') for key in keys):
            return name
    return None


def split_unused(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split weights into those of the network and those that another project has but never uses.

    Returns:
        The used weights, and the unused ones under open-cd's names without ``backbone.``.
    """
    renamed = {theirs: opencds for project in _PROJECTS.values()
               for theirs, opencds in zip(project.unused, _PROJECTS["open-cd's IFN"].unused)}
    used, unused = {}, {}
    for key, value in get_state_dict(state_dict).items():
        name = key.removeprefix('backbone.')
        if name in renamed:
            unused[renamed[name]] = value
        elif not key.startswith('data_preprocessor.'):  # its constants, which the configuration sets
            used[key] = value
    return used, unused


def convert_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert the weights of an IFN to the names of a detector with ``ifn_plugin.IFN`` and ``ifn_plugin.IFNHead``.

    Args:
        state_dict: Weights, or a checkpoint with the key ``state_dict``, of the official DSIFN, open-cd's IFN (with or
            without ``backbone.``), CDLab's, or the plugin itself.

    Returns:
        All weights, as ``backbone.features.…`` and ``decode_head.levels.…``, without the layers that the other projects
        never use.

    Raises:
        ValueError: If keys are unknown or missing, shapes mismatch, or the two encoders differ; the message names the
            keys.
    """
    project = _PROJECTS.get(recognize(state_dict) or '')
    names = project.names if project else {}
    converted: dict[str, Tensor] = {}
    for key, value in split_unused(state_dict)[0].items():
        module, _, parameter = key.rpartition('.')
        name = f'{names.get(module.removeprefix("backbone."), module)}.{parameter}'
        if name in converted and not torch.equal(converted[name], value):
            raise ValueError(f"{key} differs from the other date's encoder, but IFN has one encoder for both dates.")
        converted[name] = value
    misfits = list_misfits(converted, _detector_weights())
    if misfits:
        raise ValueError(f'These are not the weights of an IFN: {misfits}.')
    return converted


def convert_to_opencd(state_dict: Mapping[str, Any], unused: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Convert the weights of an IFN to the names of a detector with open-cd's ``IFN``.

    Args:
        state_dict: As for :func:`convert_state_dict`.
        unused: Values for the layers that open-cd's IFN has but never uses, as returned by :func:`split_unused`; ones
            and zeros by default.

    Returns:
        All weights, as ``backbone.…``, with the encoder twice, as in open-cd.

    Raises:
        ValueError: As :func:`convert_state_dict`.
    """
    weights = convert_state_dict(state_dict)
    project = _PROJECTS["open-cd's IFN"]
    converted = {f'backbone.{theirs}.{key.rpartition(".")[2]}': value
                 for theirs, ours in project.names.items()
                 for key, value in weights.items() if key.rpartition('.')[0] == ours}
    like = next(iter(weights.values()))
    for key, shape in project.unused.items():
        value = (unused or {}).get(key)
        if value is None:
            one = key.endswith(('.running_var', 'bn_ca1.weight', 'bn_ca2.weight'))
            value = like.new_full(shape, one, dtype=torch.int64 if key.endswith('num_batches_tracked') else None)
        converted[f'backbone.{key}'] = value
    return converted
