"""Cheaper decoder level for inference without autograd."""

from typing import Any

import torch
from torch import Tensor

from ifn_plugin.models.layers.convolution import convolve
from ifn_plugin.models.layers.fitting import fit


def decode_without_autograd(level: Any, pair: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``level(pair, coarse)`` with fewer copies of its widest maps, where no gradient is needed.

    For one large image, the first convolution's kernels are scaled and its partial results added, which avoids the
    concatenated and scaled maps. For small images and batches, the concatenated maps are scaled in place.

    Gain: in the peak memory of inference at 1024×1024, 1.4 in compiled float32, 1.3 in bfloat16 and 1.25 uncompiled; in
    time, 1.03 to 1.05 compiled and 0.98 uncompiled (AMD EPYC, two cores).

    Args:
        level: The ``DecoderLevel``.
        pair: The pair's features, (N, P, H, W).
        coarse: The coarser level's features, (N, C, H/2, W/2), rounded up or down.

    Returns:
        Features, (N, widths[-1], H, W), and logits, (N, 1, H, W).
    """
    (convolution, *others), *blocks = level.blocks
    upsampled = fit(level.upsample(coarse), *pair.shape[2:])
    scale = level.channel_attention.scale((upsampled, pair))
    if scale.shape[0] == 1 and pair[0, 0].numel() > convolution.weight[:, 0].numel():
        kernels = (convolution.weight * scale).split([upsampled.shape[1], pair.shape[1]], dim=1)
        x = convolve(upsampled, kernels[0])
        del upsampled
        x += convolve(pair, kernels[1], convolution.bias)
    else:
        x = torch.cat((upsampled, pair), dim=1).mul_(scale)
        del upsampled
        x = convolution(x)
    for layer in (*others, *blocks, level.spatial_attention, level.norm):
        x = layer(x)
    return x, level.logit(x)
