"""mmseg's losses and accuracy for one-channel logits, without host-device synchronization."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.models.losses import CrossEntropyLoss, DiceLoss, LovaszLoss
from mmseg.models.losses.lovasz_loss import lovasz_hinge
from mmseg.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn


def check_loss(loss: nn.Module, head: str) -> None:
    """Reject mmseg's losses that fail, or mean something else, on the one-channel logits of a head.

    Raises:
        ValueError: If the loss is one of them; the message names the setting to change.
    """
    if type(loss).__module__.startswith('mmseg.'):
        if not isinstance(loss, (CrossEntropyLoss, DiceLoss, LovaszLoss)):
            raise ValueError(f'{head} predicts one channel, which {type(loss).__name__} does not support. Fix: '
                             "CrossEntropyLoss(use_sigmoid=True), DiceLoss(use_sigmoid=True) or "
                             "LovaszLoss(loss_type='binary').")
        _check_settings(type(loss).__name__, loss, head)
    if 'loss' not in str(loss.loss_name):
        warnings.warn(
            f'loss_name={loss.loss_name!r} does not contain "loss": mmengine will log it but not train with it.',
            stacklevel=3)


def _check_settings(name: str, loss: nn.Module, head: str) -> None:
    if not getattr(loss, 'use_sigmoid', True):
        raise ValueError(f'{head} predicts one channel: {name} needs use_sigmoid=True.')
    if isinstance(loss, LovaszLoss) and loss.cls_criterion is not lovasz_hinge:
        raise ValueError(f"{head} predicts one channel: {name} needs loss_type='binary'.")
    if isinstance(loss, DiceLoss):
        if not loss.activate:
            raise ValueError(f'{head} gives logits, not probabilities: {name} needs activate=True.')
        if loss.ignore_index == 0:
            raise ValueError(f"{name}'s ignore_index is a channel, and 0 is {head}'s only one. Fix: leave it out; "
                             f"{head}'s own ignore_index is the label value to ignore.")
    weights = getattr(loss, 'class_weight', None)
    if weights is None:
        return
    if isinstance(loss, LovaszLoss):
        raise ValueError(f"{name}(loss_type='binary') ignores class_weight={weights}. Fix: leave it out.")
    weights = np.ravel(weights).tolist()
    if len(weights) != 1:
        fix = f'class_weight=[{weights[1] / weights[0]:g}]' if len(weights) == 2 and weights[0] else 'class_weight=[3.]'
        raise ValueError(f'{head} predicts one channel, so {name} takes one class_weight, that of changed pixels '
                         f'relative to unchanged ones, not {len(weights)}: {weights}. Fix: {fix}.')


def check_label(label: Tensor, ignore_index: int) -> None:
    """Reject labels with values other than 0, 1 and ``ignore_index``; mmseg also ignores negative ones.

    On a CUDA GPU, this is a device-side assertion without synchronization, as for labels out of range in torch's own
    losses.

    Raises:
        RuntimeError: If there are other values, except on CUDA; the message lists the valid ones.
    """
    valid = ((label <= 1) | (label == ignore_index)).all()
    message = f'Labels must be 0, 1 or, where ignored, {ignore_index}. Fix: load them with ifn_plugin.LoadChangeLabel.'
    if label.device.type in ('cpu', 'cuda'):
        torch._assert_async(valid, message)  # private, but the only check without synchronization
    elif not valid:
        raise RuntimeError(message)


def one_channel_loss(loss: nn.Module, logit: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """Compute one of mmseg's losses, or one with the same signature, of logits and label, both (N, 1, H, W).

    mmseg's losses select pixels by a mask, which synchronizes host and device. The replacements here give the same
    values without it. A label without labelled pixels gives 0.
    """
    label = label.masked_fill(label < 0, ignore_index)  # as mmseg's cross-entropy does
    ignored = label == ignore_index
    masked = MASKED_LOSSES.get(type(loss))
    if masked is not None:
        return masked(loss, logit, label, ignored)
    if ignored.all():
        return (0 * logit).sum()  # nothing to learn, and mmseg's losses fail on such a label
    value: Tensor
    if isinstance(loss, DiceLoss):
        # an image without labelled pixels would count as entirely wrong
        labelled = ~ignored.flatten(1).all(dim=1)
        logit, label, ignored = logit[labelled], label[labelled], ignored[labelled]
        # With (N, H, W) labels, mmseg's one-hot encoding would use class 0 as the only channel. mmseg would also
        # count ignored pixels as predicted; a logit of -inf excludes them.
        value = loss(logit.masked_fill(ignored, -torch.inf), label.masked_fill(ignored, 0))
    else:
        value = loss(logit, label.squeeze(1), ignore_index=ignore_index)
    return value


def masked_cross_entropy(loss: CrossEntropyLoss, logit: Tensor, label: Tensor, ignored: Tensor) -> Tensor:
    """Compute the binary cross-entropy of mmseg's ``CrossEntropyLoss(use_sigmoid=True)``.

    Args:
        loss: mmseg's loss, for its settings.
        logit: Logits, (N, 1, H, W).
        label: Label, (N, 1, H, W), of 0 and 1 where it is not ignored.
        ignored: Mask of ignored pixels, (N, 1, H, W).

    Returns:
        The weighted loss, a scalar; with ``reduction='none'``, (N, 1, H, W).
    """
    counted = (~ignored).float()
    changed_weight = None if loss.class_weight is None else _scalar(float(np.ravel(loss.class_weight)[0]), logit)
    values = F.binary_cross_entropy_with_logits(
        logit, label.masked_fill(ignored, 0).float(), pos_weight=changed_weight, reduction='none')
    number = counted.sum() if loss.reduction == 'mean' and loss.avg_non_ignore else None
    value: Tensor = loss.loss_weight * weight_reduce_loss(values, counted, loss.reduction, number)
    return value


def masked_dice(loss: DiceLoss, logit: Tensor, label: Tensor, ignored: Tensor) -> Tensor:
    """Compute mmseg's Dice loss of the changed class, leaving out images without labelled pixels.

    Args:
        loss: mmseg's loss, for its settings.
        logit: Logits, (N, 1, H, W).
        label: Label, (N, 1, H, W), of 0 and 1 where it is not ignored.
        ignored: Mask of ignored pixels, (N, 1, H, W).

    Returns:
        The weighted loss, a scalar; ``reduction='none'`` gives the mean, to which mmengine would reduce it anyway.
    """
    # sums of many pixels need more digits than half precision has
    logit = logit.to(torch.promote_types(logit.dtype, torch.float32))
    predicted = logit.sigmoid().masked_fill(ignored, 0).flatten(1)
    changed = label.masked_fill(ignored, 0).flatten(1).float()
    overlap = 2 * (predicted * changed).sum(1)
    if loss.naive_dice:
        dice = (overlap + loss.eps) / (predicted.sum(1) + changed.sum(1) + loss.eps)
    else:
        dice = overlap / ((predicted * predicted).sum(1) + loss.eps + (changed * changed).sum(1) + loss.eps)
    labelled = (~ignored).flatten(1).any(1).to(dice)
    total: Tensor = loss.loss_weight * ((1 - dice) * labelled).sum()
    return total if loss.reduction == 'sum' else total / labelled.sum().clamp(min=1)


def masked_lovasz(loss: LovaszLoss, logit: Tensor, label: Tensor, ignored: Tensor) -> Tensor:
    """Compute the Lovász hinge (Berman et al., CVPR 2018) of mmseg's ``LovaszLoss(loss_type='binary')``.

    Args:
        loss: mmseg's loss, for its settings.
        logit: Logits, (N, 1, H, W).
        label: Label, (N, 1, H, W), of 0 and 1 where it is not ignored.
        ignored: Mask of ignored pixels, (N, 1, H, W).

    Returns:
        The weighted loss, a scalar; with ``per_image=True, reduction='none'``, (N, ).
    """
    logit, changed, counted = (x.flatten(1) if loss.per_image else x.reshape(1, -1)
                               for x in (logit, label.masked_fill(ignored, 0).float(), (~ignored).float()))
    # ignored pixels sort last, where they change neither intersection nor union
    errors = (1 - logit * (2 * changed - 1)).masked_fill(counted == 0, -torch.inf)
    errors, order = errors.sort(dim=1, descending=True)
    changed, counted = changed.gather(1, order), counted.gather(1, order)
    total = changed.sum(1, keepdim=True)
    intersection = total - changed.cumsum(1)
    union = (total + (counted - changed).cumsum(1)).clamp(min=1)
    jaccard = 1 - intersection / union
    values = (errors.relu() * jaccard.diff(dim=1, prepend=torch.zeros_like(total))).sum(1)
    value: Tensor = loss.loss_weight * (weight_reduce_loss(values, None, loss.reduction) if loss.per_image
                                        else values.squeeze(0))
    return value


def masked_accuracy(logit: Tensor, label: Tensor, threshold: float, ignore_index: int) -> Tensor:
    """Compute the accuracy of the labelled pixels at a threshold, as mmseg's ``accuracy`` does.

    Args:
        logit: Logits, (N, 1, H, W).
        label: Label, (N, 1, H, W), of 0, 1 and ``ignore_index``; negative values are ignored as well.
        threshold: Probability above which a pixel is changed.
        ignore_index: Label value of ignored pixels.

    Returns:
        The percentage of correct pixels, a scalar.
    """
    counted = (label != ignore_index) & (label >= 0)
    right = (logit > _scalar(threshold, logit).logit()) == (label == 1)
    return 100 * (right & counted).sum() / counted.sum().clamp(min=1)


def _scalar(value: float, like: Tensor) -> Tensor:
    """Create a scalar on the device without the synchronizing copy of ``new_tensor``."""
    return like.new_full((), value)


# Looked up by exact type: subclasses by users may compute anything
MASKED_LOSSES: dict[type, Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    CrossEntropyLoss: masked_cross_entropy, DiceLoss: masked_dice, LovaszLoss: masked_lovasz}
