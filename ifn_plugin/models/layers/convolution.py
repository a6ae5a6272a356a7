"""3×3 convolutions, and Winograd's way to half of their multiplications."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifn_plugin.models.layers.compiling import is_dynamo_compiling

# Below the least, moving maps and preparing kernels takes what the multiplications would have taken; and the largest
# maps, which decide how much memory is needed, have the fewest channels
SMALLEST_KERNEL, WIDE_KERNEL = 2**14, 2**16  # channels in times channels out
FEWEST_PIXELS, MOST_PIXELS = 2**11, 2**17  # the latter for kernels that are not wide


class Convolution(nn.Conv2d):
    """A 3×3 convolution that keeps height and width.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, O, H, W)."""
        return convolve(x, self.weight, self.bias)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=1)`` of a 3×3 kernel.

    Compiled on a CPU and without autograd, large convolutions are :func:`winograd`'s. Uncompiled, each of its steps
    would pass over the memory; on a GPU, cuDNN chooses among such algorithms by itself; and what runs an exported graph
    has convolutions of its own.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
        bias: (O, ).

    Returns:
        (N, O, H, W).
    """
    if (is_dynamo_compiling() and x.device.type == 'cpu' and not torch.is_grad_enabled()
            and _spares_time(weight[:, :, 0, 0].numel(), x[:, 0].numel())):
        return winograd(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


def _spares_time(kernel: int, pixels: int) -> bool:
    if kernel < SMALLEST_KERNEL or pixels < FEWEST_PIXELS:
        return False
    return kernel >= WIDE_KERNEL or pixels <= MOST_PIXELS


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=1)`` of a 3×3 kernel by Winograd's F(4, 3) along the height.

    From six rows come four, by 6 multiplications where there were 12: six convolutions of 1×3, each over a quarter of
    the rows. Rounding errors are two to three times the direct convolution's. In two dimensions it would be fewer
    multiplications still, but more to move.

    Lavin and Gray, CVPR 2016, https://arxiv.org/abs/1509.09308.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
        bias: (O, ).

    Returns:
        (N, O, H, W).
    """
    height = x.shape[2]
    tiles = F.pad(x, (0, 0, 1, 1 + -height % 4)).unfold(2, 6, 4)  # two rows of six are the next tile's, too
    kernels = _of_kernel(*weight.unbind(2))
    # the second product is a part of all four rows, and so of each pixel once
    biases = (None, bias, None, None, None, None)
    products = [F.conv2d(row, kernel[:, :, None], bias, padding=(0, 1))
                for row, kernel, bias in zip(_of_tile(*tiles.unbind(4)), kernels, biases)]
    result = torch.stack([row.movedim(1, 3) for row in _to_rows(*products)], dim=2)  # (N, ⌈H/4⌉, 4, W, O)
    return result.flatten(1, 2).movedim(3, 1)[:, :, :height]


# The three transforms of F(4, 3), in one dimension


def _of_tile(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    return (4 * a - 5 * c + e, e + d - 4 * (c + b), e - d - 4 * (c - b), e - c + 2 * (d - b), e - c - 2 * (d - b),
            4 * b - 5 * d + f)


def _of_kernel(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    return a / 4, -(a + b + c) / 6, -(a - b + c) / 6, (a + 2 * b + 4 * c) / 24, (a - 2 * b + 4 * c) / 24, c


def _to_rows(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    return a + b + c + d + e, b - c + 2 * (d - e), b + c + 4 * (d + e), b - c + 8 * (d - e) + f
