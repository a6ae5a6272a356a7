"""Test-time augmentation of change maps."""

import math
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData

from ifn_plugin.registry import MODELS


@MODELS.register_module()
class ChangeTTAModel(BaseTTAModel):
    """Average the probabilities that a detector with one output channel or two classes gives for the augmented pairs.

    Views may be resized, and flipped horizontally, vertically or, which mmseg's detectors do not turn back,
    diagonally.

    mmseg's ``SegTTAModel`` takes the probabilities of one channel for logits, whose sigmoid lies above 0.5 everywhere,
    and leaves the logits of one of the views beside the merged map.
    """

    def test_step(self, data: Any) -> list[Any]:
        """Detect the changes in all views and merge them.

        Args:
            data: ``inputs`` and ``data_samples``, each a list of views, each a list of pairs.

        Returns:
            A sample for each pair, as of :meth:`merge_preds`.
        """
        for sample in (sample for view in data['data_samples'] for sample in view):
            if sample.metainfo.get('flip') and sample.flip_direction == 'diagonal':
                sample.set_metainfo(dict(flip=False))  # the direction stays, for merge_preds
        merged: list[Any] = super().test_step(data)
        return merged

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the samples of each pair into its first.

        Returns:
            Samples with ``pred_sem_seg`` and ``seg_logits``: the mean probability of one channel, as the detector gives
            it, or the logarithms of two classes' mean probabilities.
        """
        for samples in data_samples_list:
            views = torch.stack([_turned_back(sample) for sample in samples])
            if views.shape[1] == 1:
                merged = views.mean(0)
                changed = (merged > self.module.decode_head.threshold).to(merged)
            else:
                merged = views.log_softmax(1).logsumexp(0) - math.log(len(views))
                changed = merged.argmax(0, keepdim=True)
            samples[0].set_data(dict(seg_logits=PixelData(data=merged), pred_sem_seg=PixelData(data=changed)))
        return [samples[0] for samples in data_samples_list]


def _turned_back(sample: Any) -> torch.Tensor:
    logits: torch.Tensor = sample.seg_logits.data
    return logits.flip(1, 2) if sample.metainfo.get('flip_direction') == 'diagonal' else logits
