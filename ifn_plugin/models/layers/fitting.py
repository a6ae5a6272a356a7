"""Fitting of maps to the size of others."""

import torch.nn.functional as F
from torch import Tensor


def fit(x: Tensor, height: int, width: int) -> Tensor:
    """Crop or replicate the lower and right borders to a size, since encoders round odd sizes up or down."""
    missing = (0, max(width - x.shape[3], 0), 0, max(height - x.shape[2], 0))
    return (F.pad(x, missing, mode='replicate') if any(missing) else x)[..., :height, :width]
