"""A decoder level without autograd, at less cost."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifn_plugin.models.layers.convolution import convolve
from ifn_plugin.models.layers.upsampling import fit


def decode_without_autograd(level: Any, pair: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """``level(pair, coarse)`` with fewer copies of its widest maps, where no gradient is wanted.

    One large image: scaling the kernels of the first convolution, and adding up what its parts give, spares
    concatenated and scaled maps, and :func:`upsample_and_convolve` the up-sampled one. Small and several images: they
    are scaled in place.

    Gain: not measured by itself.

    Args:
        level: The ``DecoderLevel``.
        pair: The pair's features, (N, P, H, W).
        coarse: The level below, (N, C, H/2, W/2), rounded up or down.

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
            del upsampled  # not to be held any longer
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
    """``F.conv2d(upsample(coarse), kernel, padding=1)`` with 4 multiplications for every 9.

    A 3×3 convolution after a transposed 2×2 convolution of stride 2 is a transposed 4×4 convolution of stride 2.

    Gain: not measured by itself.

    Args:
        coarse: (N, C, h, w), with h and w of at least 2.
        upsample: From C to C channels, with bias.
        kernel: (O, C, 3, 3).

    Returns:
        (N, O, 2h, 2w).
    """
    assert upsample.bias is not None
    merged = F.conv_transpose2d(upsample.weight, kernel.flip(2, 3).transpose(0, 1))
    # Beyond the border is nothing, not even the bias. What it gives to the nine pixels of a 3×3 map are its shares in
    # the corners, edges and middle of any.
    shares = F.conv2d(upsample.bias[:, None, None].expand(-1, 3, 3)[None], kernel, padding=1)
    rows, columns = (_third(2 * side, coarse.device) for side in coarse.shape[2:])
    x = F.conv_transpose2d(coarse, merged, stride=2, padding=1)
    x += shares[..., rows[:, None], columns]
    return x


def _third(size: int, device: torch.device) -> Tensor:
    """0 for the first place, 2 for the last, 1 for those between: (size, )."""
    place = torch.arange(size, device=device)
    return (place > 0).long() + (place == size - 1).long()
