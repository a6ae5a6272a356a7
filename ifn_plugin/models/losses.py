"""mmseg's losses on one-channel logits."""

import warnings

import torch
from mmseg.models.losses import CrossEntropyLoss, DiceLoss, LovaszLoss
from mmseg.models.losses.lovasz_loss import lovasz_hinge
from torch import Tensor, nn


def check_loss(loss: nn.Module) -> None:
    """Refuse mmseg's losses that fail, or mean something else, on one-channel logits.

    Raises:
        ValueError: With what to set.
    """
    if type(loss).__module__.startswith('mmseg.'):
        if not isinstance(loss, (CrossEntropyLoss, DiceLoss, LovaszLoss)):
            raise ValueError(f'IFNHead predicts one channel, which {type(loss).__name__} does not know. Fix: '
                             "CrossEntropyLoss(use_sigmoid=True), DiceLoss(use_sigmoid=True) or "
                             "LovaszLoss(loss_type='binary').")
        _check_settings(type(loss).__name__, loss)
    if 'loss' not in str(loss.loss_name):
        warnings.warn(
            f'loss_name={loss.loss_name!r} does not contain "loss": mmengine will log it but not train on it.',
            stacklevel=3)


def _check_settings(name: str, loss: nn.Module) -> None:
    if not getattr(loss, 'use_sigmoid', True):
        raise ValueError(f'IFNHead predicts one channel: {name} needs use_sigmoid=True.')
    if isinstance(loss, LovaszLoss) and loss.cls_criterion is not lovasz_hinge:
        raise ValueError(f"IFNHead predicts one channel: {name} needs loss_type='binary'.")
    if isinstance(loss, DiceLoss):
        if not loss.activate:
            raise ValueError(f'IFNHead gives logits, not probabilities: {name} needs activate=True.')
        if loss.ignore_index == 0:
            raise ValueError(f"{name}'s ignore_index is a channel, and 0 the only one that IFNHead has. Fix: leave it "
                             "out; IFNHead's own ignore_index is the label's value.")
    weights = getattr(loss, 'class_weight', None)
    if weights is None:
        return
    if isinstance(loss, LovaszLoss):
        raise ValueError(f"{name}(loss_type='binary') takes no notice of class_weight={weights}. Fix: leave it out.")
    if len(weights) != 1:
        fix = f'class_weight=[{weights[1] / weights[0]:g}]' if len(weights) == 2 and weights[0] else 'class_weight=[3.]'
        raise ValueError(f'IFNHead predicts one channel, so {name} takes one class_weight, what a changed pixel counts '
                         f'against an unchanged one, not {len(weights)}: {weights}. Fix: {fix}.')


def one_channel_loss(loss: nn.Module, logit: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """One of mmseg's losses, or one that is called likewise, between logits and label, both (N, 1, H, W)."""
    ignored = label == ignore_index
    if ignored.all():
        return 0 * logit.sum()  # nothing to learn, and mmseg's losses stumble over an empty label
    value: Tensor
    if isinstance(loss, DiceLoss):
        # an image without a labelled pixel would count as one that is all wrong
        labelled = ~ignored.flatten(1).all(dim=1)
        logit, label, ignored = logit[labelled], label[labelled], ignored[labelled]
        # From (N, H, W) labels, mmseg's one-hot encoding would take class 0 for the only channel. And it would
        # count ignored pixels as predicted: a logit of -inf counts as nothing.
        value = loss(logit.masked_fill(ignored, -torch.inf), label.masked_fill(ignored, 0))
    else:
        value = loss(logit, label.squeeze(1), ignore_index=ignore_index)
    return value
