"""Pretrained weights for encoders, of three or of other bands."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ifn_plugin.fileio.checkpoint import CheckpointError, get_state_dict, load_checkpoint_file
from ifn_plugin.utils import abbreviate


def load_encoder_weights(model: Any, source: str, prefix: str | None = None, map_location: str = 'cpu') -> None:
    """Load all weights of a VGG16 into an encoder, or none.

    Args:
        model: The encoder, an ``IFN``.
        source: As for :func:`load_checkpoint_file`: weights of torchvision's VGG16, or of a change detector with this
            encoder: the plugin's, open-cd's or the official one.
        prefix: Prefix of the encoder's ``features.`` in the file, if it is none of these projects'.
        map_location: Device for the tensors.

    Raises:
        CheckpointError: If weights are missing or mismatched in shape; the message names the keys, and nothing is
            loaded.
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
        raise CheckpointError(f'{source} does not fit the encoder of IFN (VGG16, {model.in_channels} channels): '
                              f'{misfits}. Nothing was loaded.')
    model.features.load_state_dict(found)
    print_log(f'Loaded the encoder of IFN from {source}', 'current')


def spread_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the first convolution of an RGB network to another number of bands.

    Each band gets the mean of the weights for red, green and blue, scaled so that grey images give the same features.

    Args:
        weight: Weight of the convolution, (F, 3, k, k).
        in_channels: Number of bands.

    Returns:
        Weight, (F, in_channels, k, k). It is unchanged if it does not have three channels, or ``in_channels`` is 3.
    """
    if weight.ndim != 4 or weight.shape[1] != 3 or in_channels == 3:
        return weight
    print_log(f'Spread the weights of the first convolution from 3 to {in_channels} channels', 'current')
    return (weight.mean(dim=1, keepdim=True) * (3 / in_channels)).repeat(1, in_channels, 1, 1)


def list_misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str = '') -> str:
    """List mismatches between weights and a network.

    Args:
        found: The weights.
        wanted: The network's own.
        prefix: Prefix of the names in the result.

    Returns:
        The first names that are missing, mismatched in shape or unknown; empty if the weights fit.
    """
    faults = [f'{prefix}{key} is missing' for key in wanted if key not in found]
    faults += [f'{prefix}{key} is {tuple(found[key].shape)}, not {tuple(value.shape)}'
               for key, value in wanted.items() if key in found and found[key].shape != value.shape]
    faults += [f'{prefix}{key} is unknown' for key in found if key not in wanted]
    return abbreviate(faults, 8, '; ')


def spread_when_loaded(encoder: nn.Module, in_channels: int) -> None:
    """Let the first convolution of an encoder for other bands load the weights of an RGB encoder."""
    first = next((layer for layer in encoder.modules()
                  if isinstance(layer, nn.Conv2d) and layer.in_channels == in_channels), None)
    if first is not None and in_channels != 3:
        first._register_load_state_dict_pre_hook(partial(_spread, in_channels))


def _spread(in_channels: int, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    key = f'{prefix}weight'
    if key in state_dict:
        state_dict[key] = spread_channels(state_dict[key], in_channels)
