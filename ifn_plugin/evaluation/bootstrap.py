"""Uncertainty of F1 by a bootstrap over pairs."""

from collections.abc import Sequence

import numpy as np


def resample_f1(counts: Sequence[np.ndarray], repetitions: int = 2000) -> np.ndarray:
    """Compute F1 of the same random samples of pairs, drawn with replacement, for several models.

    Args:
        counts: For each model, true positives, false positives and false negatives of the same pairs, (P, 3).
        repetitions: Number of samples.

    Returns:
        F1 in percent, (models, repetitions).
    """
    number = len(counts[0])
    weights = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), repetitions)
    tp, fp, fn = np.moveaxis(np.stack([weights @ model for model in counts]), 2, 0)
    scores: np.ndarray = 200 * tp / np.maximum(2 * tp + fp + fn, 1)
    return scores


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the limits between which 95 percent of the values lie."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
