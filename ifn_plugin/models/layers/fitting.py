"""Fitting of maps to the size of others."""

import torch.nn.functional as F
from torch import Tensor


def fit(x: Tensor, height: int, width: int) -> Tensor:
    """Crop maps, (N, C, H, W), or replicate their lower and right borders, to a size: encoders round odd sizes."""
    missing = (0, max(width - x.shape[3], 0), 0, max(height - x.shape[2], 0))
    return (F.pad(x, missing, mode='replicate') if any(missing) else x)[..., :height, :width]
