"""Global maximum pooling whose gradient can be compiled."""

import torch
from torch import Tensor


def largest(x: Tensor, first: int, last: int) -> Tensor:
    """Compute ``x.amax(dims, keepdim=True)`` over the dimensions ``first`` to ``last``, with a gradient that compiles.

    The gradient of ``amax`` searches for the values that equal the maximum. Compiled under bfloat16 autocast, the
    values are recomputed without rounding, none equals it, and the gradient is 0/0. ``max`` stores the index instead;
    among several maxima, one gets the gradient that ``amax`` distributes evenly.
    """
    dims = tuple(range(first, last + 1))
    if not torch.is_grad_enabled():
        return x.amax(dims, keepdim=True)
    values = x.flatten(first, last).max(first).values
    return values.reshape(*x.shape[:first], *(1 for _ in dims), *x.shape[last + 1:])
