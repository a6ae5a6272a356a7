"""Upsampling by a transposed 2×2 convolution of stride 2."""

import torch.nn.functional as F
from torch import Tensor, nn

from ifn_plugin.models.layers.compiling import is_compiling


class Upsampling(nn.ConvTranspose2d):
    """A transposed 2×2 convolution of stride 2.

    Args:
        channels: Channels of the input and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Upsample: (N, C, h, w) → (N, C, 2h, 2w)."""
        if is_compiling():
            return upsample_by_convolution(x, self.weight, self.bias)
        return super().forward(x)


def upsample_by_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.conv_transpose2d(x, weight, bias, stride=2)`` of a 2×2 kernel by a 1×1 convolution.

    It gives the channels of four pixels at once. When compiled, the next operation reads the result directly, and the
    backward pass is that of a 1×1 convolution.

    Gain: not measured by itself.

    Args:
        x: Input, (N, C, h, w).
        weight: Kernel, (C, O, 2, 2).
        bias: Bias, (O, ).

    Returns:
        Output, (N, O, 2h, 2w).
    """
    kernel = weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]
    bias = None if bias is None else bias.repeat(4)
    pixels = F.conv2d(x, kernel, bias).unflatten(1, (2, 2, -1))  # (N, 2, 2, O, h, w)
    height, width = x.shape[2:]
    return pixels.permute(0, 4, 1, 5, 2, 3).reshape(-1, 2 * height, 2 * width, weight.shape[1]).movedim(3, 1)


def fit(x: Tensor, height: int, width: int) -> Tensor:
    """Crop or replicate the lower and right borders to a size, since encoders round odd sizes up or down."""
    missing = (0, max(width - x.shape[3], 0), 0, max(height - x.shape[2], 0))
    return (F.pad(x, missing, mode='replicate') if any(missing) else x)[..., :height, :width]
