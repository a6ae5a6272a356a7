"""Scores of change maps, and of probabilities at every threshold."""

import torch
from torch import Tensor

# Limits of the bins in which probabilities are counted: hundredths, which people set, and steps of the logit, since a
# trained network is certain of most pixels. torchmetrics' binned curve would compare every pixel with every threshold;
# a binary search is as exact.
_HUNDREDTHS = torch.arange(1, 100, dtype=torch.float64) / 100
_STEPS = torch.linspace(-16, 16, 1281, dtype=torch.float64).sigmoid()
THRESHOLDS = torch.unique(torch.cat((_HUNDREDTHS, _STEPS)).float())
# The hundredths and every eighth step from -15.6 to 15.6: few enough that the number of those below a probability fits
# into 8 bits
LEVELS = torch.unique(torch.cat((_HUNDREDTHS, _STEPS[16:1265:8])).float())


def change_probability(logits: Tensor) -> Tensor:
    """Return the probability of "changed", (H, W), float32.

    Args:
        logits: ``seg_logits`` of mmseg's detectors: probabilities, (1, H, W), since the sigmoid is already applied to a
            single channel, or the logits of two classes, (2, H, W).
    """
    logits = logits.float()
    return logits[0] if len(logits) == 1 else logits.softmax(dim=0)[1]


def scores(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """Compute the scores of the class "changed" from a confusion matrix.

    Args:
        tp: True positives, in pixels.
        fp: False positives.
        fn: False negatives.
        tn: True negatives.

    Returns:
        ``Precision``, ``Recall``, ``F1``, ``IoU``, overall accuracy ``OA`` and Cohen's ``Kappa``, in percent; 0 where
        the denominator is 0.
    """
    found, changed = tp + fp, tp + fn
    total = found + fn + tn
    # Cohen's kappa, multiplied out: exact in integers
    by_chance = found * changed + (total - found) * (total - changed)

    def percent(part: int, whole: int) -> float:
        return 100 * part / whole if whole else 0.

    return {
        'Precision': percent(tp, found),
        'Recall': percent(tp, changed),
        'F1': percent(2 * tp, found + changed),
        'IoU': percent(tp, found + fn),
        'OA': percent(tp + tn, total),
        'Kappa': percent(total * (tp + tn) - by_chance, total**2 - by_chance),
    }


def scores_at(curve: Tensor, threshold: float, suffix: str) -> dict[str, float]:
    """Compute the scores at one of ``THRESHOLDS``, with a suffix to their names. ``curve``: the counts, (4, T)."""
    index = int(torch.searchsorted(THRESHOLDS, torch.tensor(threshold)))
    return {name + suffix: value for name, value in scores(*curve[:, index].tolist()).items()}


def best_threshold(curve: Tensor) -> float:
    """Find the threshold with the highest F1. ``curve``: the counts at each threshold, (4, T)."""
    tp, fp, fn = curve[:3].double()
    f1 = 2 * tp / (2 * tp + fp + fn).clamp(min=1)
    # the middle one of several that are equally good
    best = (f1 == f1.max()).nonzero()
    return float(THRESHOLDS[best[len(best) // 2]])


def average_precision(curve: Tensor) -> float:
    """Compute average precision, in percent, as a sum over steps of recall like scikit-learn's.

    Args:
        curve: Numbers of true and false positives, false and true negatives at each threshold, (4, T).
    """
    tp, fp, fn, tn = curve.double()
    changed, unchanged = tp[:1] + fn[:1], fp[:1] + tn[:1]
    # from the strictest threshold to none
    tp, fp = torch.cat((tp.flip(0), changed)), torch.cat((fp.flip(0), unchanged))
    precision = tp / (tp + fp).clamp(min=1)
    steps = tp.diff(prepend=tp.new_zeros(1)) / changed.clamp(min=1)
    return float(100 * (precision * steps).sum())
