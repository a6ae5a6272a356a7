"""3×3 convolutions, and Winograd's algorithm with half of their multiplications."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifn_plugin.models.layers.compiling import is_dynamo_compiling

# Below the minima, moving maps and transforming kernels costs as much as the multiplications saved; the maximum spares
# the largest maps, which have the fewest channels and determine the peak memory
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
        """Convolve: (N, C, H, W) → (N, O, H, W)."""
        return convolve(x, self.weight, self.bias)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.conv2d(x, weight, bias, padding=1)`` of a 3×3 kernel.

    When compiled on a CPU without autograd, large convolutions use :func:`winograd`. Uncompiled, each of its steps
    would traverse the memory; on a GPU, cuDNN selects such algorithms itself; and runtimes of exported graphs have
    convolutions of their own.

    Args:
        x: Input, (N, C, H, W).
        weight: Kernel, (O, C, 3, 3).
        bias: Bias, (O, ).

    Returns:
        Output, (N, O, H, W).
    """
    if (is_dynamo_compiling() and x.device.type == 'cpu' and not torch.is_grad_enabled()
            and _saves_time(weight[:, :, 0, 0].numel(), x[:, 0].numel())):
        return winograd(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


def _saves_time(kernel: int, pixels: int) -> bool:
    if kernel < SMALLEST_KERNEL or pixels < FEWEST_PIXELS:
        return False
    return kernel >= WIDE_KERNEL or pixels <= MOST_PIXELS


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.conv2d(x, weight, bias, padding=1)`` of a 3×3 kernel by Winograd's F(4, 3) along the height.

    Six input rows give four output rows with 6 multiplications instead of 12: six 1×3 convolutions, each over a quarter
    of the rows. Rounding errors are two to three times the direct convolution's. Two-dimensional tiles would need even
    fewer multiplications, but more memory traffic.

    Gain: in the time of compiled inference, 1.25 in bfloat16 and 1.28 in float32 at 1024×1024, 1.16 in bfloat16 for
    four images of 256×256; in peak memory, 0.9 and 0.95 (AMD EPYC, two cores).

    Lavin and Gray, CVPR 2016, https://arxiv.org/abs/1509.09308.

    Args:
        x: Input, (N, C, H, W).
        weight: Kernel, (O, C, 3, 3).
        bias: Bias, (O, ).

    Returns:
        Output, (N, O, H, W).
    """
    height = x.shape[2]
    tiles = F.pad(x, (0, 0, 1, 1 + -height % 4)).unfold(2, 6, 4)  # tiles of six rows overlap by two
    kernels = _transform_kernel(*weight.unbind(2))
    # the second product contributes to all four rows, so it adds the bias to each pixel once
    biases = (None, bias, None, None, None, None)
    products = [F.conv2d(row, kernel[:, :, None], bias, padding=(0, 1))
                for row, kernel, bias in zip(_transform_input(*tiles.unbind(4)), kernels, biases)]
    result = torch.stack([row.movedim(1, 3) for row in _transform_output(*products)], dim=2)  # (N, ⌈H/4⌉, 4, W, O)
    return result.flatten(1, 2).movedim(3, 1)[:, :, :height]


# The three transforms of one-dimensional F(4, 3)


def _transform_input(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    return (4 * a - 5 * c + e, e + d - 4 * (c + b), e - d - 4 * (c - b), e - c + 2 * (d - b), e - c - 2 * (d - b),
            4 * b - 5 * d + f)


def _transform_kernel(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    return a / 4, -(a + b + c) / 6, -(a - b + c) / 6, (a + 2 * b + 4 * c) / 24, (a - 2 * b + 4 * c) / 24, c


def _transform_output(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    return a + b + c + d + e, b - c + 2 * (d - e), b + c + 4 * (d + e), b - c + 8 * (d - e) + f
