"""Conversion between alternating dates in the batch and pairs concatenated by channel."""

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn


def pair_up(x: Tensor) -> Tensor:
    """Concatenate the maps of alternating dates, (2·N, C, H, W) → (N, 2·C, H, W), keeping the memory format."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.cat((x[0::2], x[1::2]), dim=1)
    # explicit channels: with -1, inductor cannot order the strides of symbolic sizes
    return x.reshape(x.shape[0] // 2, 2 * x.shape[1], *x.shape[2:])


def encode_from_pairs(layers: Iterable[nn.Module], taps: Collection[int], x: Tensor) -> list[Tensor]:
    """Compute ``IFN.encode`` with less memory when compiled: each group continues from the previous one's paired map.

    This way, the paired map replaces the maps of the dates. The compiler would otherwise keep the latter and pair them
    only when the decoder needs them, in addition to the decoder's own maps.

    Gain: in the peak memory of inference at 1024×1024, 1.3 in float32 and 1.06 in bfloat16; in time, 1.01 to 1.02 (AMD
    EPYC, two cores).

    Args:
        layers: The encoder's layers in order.
        taps: Indices of the layers whose outputs are returned. Each but the last is followed by a pooling layer.
        x: Alternating dates, (2·N, C, H, W).

    Returns:
        Paired maps, (N, 2·F, H/s, W/s), fine to coarse.
    """
    maps: list[Tensor] = []
    for index, layer in enumerate(layers):
        if index - 1 in taps:
            x = torch.stack([layer(date) for date in maps[-1].chunk(2, dim=1)], dim=1).flatten(0, 1)
        else:
            x = layer(x)
        if index in taps:
            maps.append(pair_up(x))
    return maps
