"""Scores of a change map, and of probabilities at every threshold."""

import torch
from torch import Tensor

# Probabilities are counted between these: hundredths, which people set, and steps of the logit, since a trained network
# is sure of most pixels. torchmetrics' binned curve would compare every pixel with every threshold, where a look into a
# sorted list is as exact.
THRESHOLDS = torch.unique(
    torch.cat((torch.arange(1, 100, dtype=torch.float64) / 100,
               torch.linspace(-16, 16, 1281, dtype=torch.float64).sigmoid())).float())


def scores(hits: int, false_alarms: int, misses: int, rejections: int) -> dict[str, float]:
    """What four counts of pixels say about the class "changed".

    Args:
        hits: Changed and found.
        false_alarms: Found, but unchanged.
        misses: Changed, but not found.
        rejections: Unchanged and not found.

    Returns:
        ``Precision``, ``Recall``, ``F1``, ``IoU``, overall accuracy ``OA`` and Cohen's ``Kappa``, in percent; 0 where
        there is nothing to divide by.
    """
    found, changed = hits + false_alarms, hits + misses
    total = found + misses + rejections
    # Cohen's kappa, multiplied out: integers, so that nothing is lost
    by_chance = found * changed + (total - found) * (total - changed)

    def percent(part: int, whole: int) -> float:
        return 100 * part / whole if whole else 0.

    return {
        'Precision': percent(hits, found),
        'Recall': percent(hits, changed),
        'F1': percent(2 * hits, found + changed),
        'IoU': percent(hits, found + misses),
        'OA': percent(hits + rejections, total),
        'Kappa': percent(total * (hits + rejections) - by_chance, total**2 - by_chance),
    }


def scores_at(curve: Tensor, threshold: float, suffix: str) -> dict[str, float]:
    index = int(torch.searchsorted(THRESHOLDS, torch.tensor(threshold)))
    return {name + suffix: value for name, value in scores(*curve[:, index].tolist()).items()}


def best_threshold(curve: Tensor) -> float:
    hits, false_alarms, misses = curve[:3].double()
    f1 = 2 * hits / (2 * hits + false_alarms + misses).clamp(min=1)
    # the middle one, where several are best
    best = (f1 == f1.max()).nonzero()
    return float(THRESHOLDS[best[len(best) // 2]])


def average_precision(curve: Tensor) -> float:
    """Mean precision over recall, in steps as scikit-learn's, in percent."""
    hits, false_alarms, misses, rejections = curve.double()
    changed, unchanged = hits[:1] + misses[:1], false_alarms[:1] + rejections[:1]
    # from the strictest threshold to none
    hits, false_alarms = torch.cat((hits.flip(0), changed)), torch.cat((false_alarms.flip(0), unchanged))
    precision = hits / (hits + false_alarms).clamp(min=1)
    steps = hits.diff(prepend=hits.new_zeros(1)) / changed.clamp(min=1)
    return float(100 * (precision * steps).sum())
