"""Pretrained weights for IFN's encoder, also for other bands."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ifn_plugin.fileio.checkpoint import get_state_dict, load_checkpoint_file


def load_encoder_weights(model: Any, source: str, prefix: str | None = None, map_location: str = 'cpu') -> None:
    """Load a VGG16 into an encoder, all of it or nothing.

    Args:
        model: The encoder, an ``IFN``.
        source: As for :func:`load_checkpoint_file`: weights of torchvision's VGG16, or a change detector with this
            encoder: the plugin's, open-cd's or the official one.
        prefix: Where in the file the encoder's ``features.`` stand, if not at one of these projects' places.
        map_location: Device for the tensors.

    Raises:
        ValueError: If weights are missing or of another shape: the keys are named and nothing is loaded.
    """
    place = r'(backbone\.)?(encoder1\.|t1_base\.)?' if prefix is None else re.escape(prefix.rstrip('.') + '.')
    found = {}
    for key, value in get_state_dict(load_checkpoint_file(source, map_location)).items():
        match = re.fullmatch(place + r'features\.(?P<rest>.+)', key)
        if match:
            found[match['rest']] = value
    if '0.weight' in found:
        found['0.weight'] = spread_channels(found['0.weight'], model.in_channels)
    misfits = list_misfits(found, model.features.state_dict(), 'features.')
    if misfits:
        raise ValueError(f'{source} does not fit the encoder of IFN (VGG16, {model.in_channels} channels): {misfits}. '
                         'Nothing was loaded.')
    model.features.load_state_dict(found)
    print_log(f'Loaded the encoder of IFN from {source}', 'current')


def spread_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Make the first convolution of a network for red, green and blue one for other bands.

    Each band gets the mean of the three's weights, scaled so that grey images give the same features.

    Args:
        weight: (F, 3, k, k).
        in_channels: Number of bands.

    Returns:
        (F, in_channels, k, k); what has not three channels, or is to have three, is returned as it is.
    """
    if weight.ndim != 4 or weight.shape[1] != 3 or in_channels == 3:
        return weight
    print_log(f'The first convolution, made for 3 channels, was spread over {in_channels}', 'current')
    return (weight.mean(dim=1, keepdim=True) * (3 / in_channels)).repeat(1, in_channels, 1, 1)


def list_misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str = '') -> str:
    """Say what is wrong with weights.

    Args:
        found: The weights.
        wanted: Those of the network.
        prefix: What to put before the names.

    Returns:
        The first names that are missing, of another shape or unknown; nothing if the weights fit.
    """
    faults = [f'{prefix}{key} is missing' for key in wanted if key not in found]
    faults += [f'{prefix}{key} is {tuple(found[key].shape)}, not {tuple(value.shape)}'
               for key, value in wanted.items() if key in found and found[key].shape != value.shape]
    faults += [f'{prefix}{key} is unknown' for key in found if key not in wanted]
    return '; '.join(faults[:8]) + (f' and {len(faults) - 8} more' if len(faults) > 8 else '')


def spread_when_loaded(encoder: nn.Module, in_channels: int) -> None:
    """Let the first convolution of an encoder for other bands load the weights of one for red, green and blue."""
    first = next((layer for layer in encoder.modules()
                  if isinstance(layer, nn.Conv2d) and layer.in_channels == in_channels), None)
    if first is not None and in_channels != 3:
        first._register_load_state_dict_pre_hook(partial(_spread, in_channels))


def _spread(in_channels: int, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    key = f'{prefix}weight'
    if key in state_dict:
        state_dict[key] = spread_channels(state_dict[key], in_channels)
