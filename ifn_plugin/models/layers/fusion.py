"""Cheaper decoder level for inference without autograd."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifn_plugin.models.layers.convolution import convolve
from ifn_plugin.models.layers.upsampling import fit


def decode_without_autograd(level: Any, pair: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``level(pair, coarse)`` with fewer copies of its widest maps, where no gradient is needed.

    For one large image, the first convolution's kernels are scaled and its partial results added, which avoids the
    concatenated and scaled maps; :func:`upsample_and_convolve` avoids the upsampled one. For small images and batches,
    the concatenated maps are scaled in place.

    Gain: not measured by itself.

    Args:
        level: The ``DecoderLevel``.
        pair: The pair's features, (N, P, H, W).
        coarse: The coarser level's features, (N, C, H/2, W/2), rounded up or down.

    Returns:
        Features, (N, widths[-1], H, W), and logits, (N, 1, H, W).
    """
    (convolution, *others), *blocks = level.blocks
    height, width = pair.shape[2:]
    upsampled = fit(level.upsample(coarse), height, width)
    scale = level.channel_attention.scale((upsampled, pair))
    if scale.shape[0] == 1 and pair[0, 0].numel() > convolution.weight[:, 0].numel():
        kernels = (convolution.weight * scale).split([upsampled.shape[1], pair.shape[1]], dim=1)
        if (height, width) == (2 * coarse.shape[2], 2 * coarse.shape[3]):
            del upsampled  # frees memory before the convolution
            x = upsample_and_convolve(coarse, level.upsample, kernels[0])
        else:
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


def upsample_and_convolve(coarse: Tensor, upsample: nn.ConvTranspose2d, kernel: Tensor) -> Tensor:
    """Compute ``F.conv2d(upsample(coarse), kernel, padding=1)`` with 4 instead of 9 multiplications.

    A 3×3 convolution after a transposed 2×2 convolution of stride 2 equals a transposed 4×4 convolution of stride 2.

    Gain: not measured by itself.

    Args:
        coarse: Input, (N, C, h, w), with h and w of at least 2.
        upsample: Transposed 2×2 convolution from C to C channels, with bias.
        kernel: Kernel of the 3×3 convolution, (O, C, 3, 3).

    Returns:
        Output, (N, O, 2h, 2w).
    """
    assert upsample.bias is not None
    merged = F.conv_transpose2d(upsample.weight, kernel.flip(2, 3).transpose(0, 1))
    # The padding has no bias, so the bias contributes less at the borders. Its contributions to a 3×3 map are those to
    # the corners, edges and interior of any map.
    shares = F.conv2d(upsample.bias[:, None, None].expand(-1, 3, 3)[None], kernel, padding=1)
    rows, columns = (_third(2 * side, coarse.device) for side in coarse.shape[2:])
    x = F.conv_transpose2d(coarse, merged, stride=2, padding=1)
    x += shares[..., rows[:, None], columns]
    return x


def _third(size: int, device: torch.device) -> Tensor:
    """Return 0 for the first index, 2 for the last and 1 for those between: (size, )."""
    place = torch.arange(size, device=device)
    return (place > 0).long() + (place == size - 1).long()
