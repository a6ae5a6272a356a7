"""Test-time augmentation of change maps."""

from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData

from ..registry import MODELS


@MODELS.register_module()
class ChangeTTAModel(BaseTTAModel):
    """Average the probabilities that a detector with one output channel gives for the augmented pairs.

    mmseg's ``SegTTAModel`` takes these probabilities for logits: their sigmoid lies above 0.5 everywhere.
    """

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the samples of each pair into its first: ``seg_logits``, the mean probability, and ``pred_sem_seg``."""
        for samples in data_samples_list:
            probability = torch.stack([sample.seg_logits.data for sample in samples]).mean(0)
            changed = (probability > self.module.decode_head.threshold).to(probability)
            samples[0].set_data(dict(seg_logits=PixelData(data=probability), pred_sem_seg=PixelData(data=changed)))
        return [samples[0] for samples in data_samples_list]
