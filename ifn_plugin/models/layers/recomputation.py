"""Recomputation of a decoder level in the backward pass."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def decode_and_recompute(level: nn.Module, pair: Tensor, coarse: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute ``level(pair, coarse)`` without storing its maps: the backward pass recomputes them.

    Gain: the decoder stores less than half as much in training. A batch counts once in running statistics.
    """
    contexts = partial(_forward_and_recomputation, level)
    features, logit = checkpoint(level, pair, coarse, use_reentrant=False, context_fn=contexts)
    return features, logit


class _WithoutStatistics:
    """Context in which normalizations use a batch's statistics without updating the running ones; reusable."""

    def __init__(self, module: nn.Module) -> None:
        # by attribute, not by class: mmcv's SyncBatchNorm counts too
        self.norms: list[Any] = [layer for layer in module.modules()
                                 if layer.training and getattr(layer, 'running_mean', None) is not None]

    def __enter__(self) -> None:
        self.momenta = [norm.momentum for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.

    def __exit__(self, *_: object) -> None:
        for norm, momentum in zip(self.norms, self.momenta):
            norm.momentum = momentum
            if getattr(norm, 'num_batches_tracked', None) is not None:
                norm.num_batches_tracked -= 1


def _forward_and_recomputation(level: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    # a batch must count only once, though its maps are computed twice
    return nullcontext(), _WithoutStatistics(level)
