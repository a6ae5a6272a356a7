"""Channel and spatial attention of CBAM (Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ifn_plugin.models.layers.pooling import largest


class ChannelAttention(nn.Module):
    """Scale every channel by a weight in (0, 1), computed from all channels' means and maxima over the image.

    Args:
        channels: Number of channels of the input.
        reduction: Reduction factor of the channels between the two 1×1 convolutions.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def _bottleneck(self, pooled: Tensor) -> Tensor:
        squeezed: Tensor = self.fc2(self.fc1(pooled).relu())
        return squeezed

    def scale(self, parts: Sequence[Tensor]) -> Tensor:
        """Compute the channel weights of concatenated maps: (N, C_i, H, W) with ΣC_i = C → (N, C, 1, 1)."""
        mean = torch.cat([part.mean((2, 3), keepdim=True) for part in parts], dim=1)
        maximum = torch.cat([largest(part, 2, 3) for part in parts], dim=1)
        return (self._bottleneck(mean) + self._bottleneck(maximum)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels: (N, C, H, W) → (N, C, H, W)."""
        return x * self.scale([x])


class SpatialAttention(nn.Module):
    """Scale every pixel by a weight in (0, 1), computed from the channels' mean and maximum in its neighbourhood.

    Args:
        kernel_size: Side of the convolution kernel, odd, in pixels.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the pixels: (N, C, H, W) → (N, C, H, W)."""
        pooled = torch.cat((x.mean(1, keepdim=True), largest(x, 1, 1)), dim=1)
        scale: Tensor = self.conv(pooled)
        return x * scale.sigmoid()
