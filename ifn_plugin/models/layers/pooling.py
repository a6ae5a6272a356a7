"""Global maximum pooling that can be trained compiled."""

import torch
from torch import Tensor


def largest(x: Tensor, first: int, last: int) -> Tensor:
    """``x.amax(dims, keepdim=True)`` of the dimensions from ``first`` to ``last``, with a gradient that compiles.

    The gradient of ``amax`` looks for the places that equal the largest value. Compiled under bfloat16 autocast, they
    are computed anew without rounding, none equals it, and the gradient is 0/0. ``max`` remembers the place; where
    several values are the largest, it gives one of them the gradient that ``amax`` distributes evenly.
    """
    dims = tuple(range(first, last + 1))
    if not torch.is_grad_enabled():
        return x.amax(dims, keepdim=True)
    values = x.flatten(first, last).max(first).values
    return values.reshape(*x.shape[:first], *(1 for _ in dims), *x.shape[last + 1:])
