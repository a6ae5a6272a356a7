"""Both dates' maps, in turn and side by side."""

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn


def pair_up(x: Tensor) -> Tensor:
    """Both dates' maps in turn, (2·N, C, H, W) → side by side, (N, 2·C, H, W), in the memory format that they have."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.cat((x[0::2], x[1::2]), dim=1)
    # channels by number: with -1, inductor cannot order the strides once sizes are symbolic
    return x.reshape(x.shape[0] // 2, 2 * x.shape[1], *x.shape[2:])


def encode_from_pairs(layers: Iterable[nn.Module], taps: Collection[int], x: Tensor) -> list[Tensor]:
    """``IFN.encode`` with less memory where it is compiled: each group goes on from the pair's map of the one before.

    The paired map so takes the place of the dates'. The compiler would keep those, and pair them up only when the
    decoder needs it, next to the decoder's own maps.

    Gain: not measured by itself.

    Args:
        layers: The encoder's layers in turn.
        taps: Numbers of the layers whose results are wanted. A pooling layer follows on each.
        x: Both dates in turn, (2·N, C, H, W).

    Returns:
        Paired maps, fine to coarse.
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
