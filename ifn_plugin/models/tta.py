"""Test-time augmentation of change maps."""

import math
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData

from ..registry import MODELS


@MODELS.register_module()
class ChangeTTAModel(BaseTTAModel):
    """Average the probabilities that a detector with one output channel or two classes gives for the augmented pairs.

    mmseg's ``SegTTAModel`` takes the probabilities of one channel for logits, whose sigmoid lies above 0.5 everywhere,
    and leaves the logits of one of the views beside the merged map.
    """

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the samples of each pair into its first.

        Returns:
            Samples with ``pred_sem_seg`` and ``seg_logits``: the mean probability of one channel, as the detector gives
            it, or the logarithms of two classes' mean probabilities.
        """
        for samples in data_samples_list:
            views = torch.stack([sample.seg_logits.data for sample in samples])
            if views.shape[1] == 1:
                merged = views.mean(0)
                changed = (merged > self.module.decode_head.threshold).to(merged)
            else:
                merged = views.log_softmax(1).logsumexp(0) - math.log(len(views))
                changed = merged.argmax(0, keepdim=True)
            samples[0].set_data(dict(seg_logits=PixelData(data=merged), pred_sem_seg=PixelData(data=changed)))
        return [samples[0] for samples in data_samples_list]
