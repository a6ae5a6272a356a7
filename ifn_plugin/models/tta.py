"""Test-time augmentation of change maps."""

import math
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData

from ifn_plugin.models.decision import decision_threshold
from ifn_plugin.registry import MODELS


@MODELS.register_module()
class ChangeTTAModel(BaseTTAModel):
    """Average a detector's probabilities, of one output channel or two classes, over the augmented views of a pair.

    Views may be resized and flipped: horizontally, vertically or diagonally, which mmseg's detectors do not undo.

    mmseg's ``SegTTAModel`` mistakes the probabilities of one channel for logits, so that their sigmoid is above 0.5
    everywhere, and keeps the logits of a single view next to the merged map.

    Args:
        module: The detector, or its settings.
        data_preprocessor: Settings of its preprocessor, unless it has its own, which mmengine would replace.
    """

    def __init__(self, module: Any, data_preprocessor: Any = None) -> None:
        if isinstance(module, dict) and module.get('data_preprocessor') is not None:
            data_preprocessor = None
        super().__init__(module, data_preprocessor)

    def test_step(self, data: Any) -> list[Any]:
        """Detect the changes in all views and merge them.

        Args:
            data: ``inputs`` and ``data_samples``, each a list of views, each a list of pairs.

        Returns:
            A sample for each pair, as from :meth:`merge_preds`.
        """
        for sample in (sample for view in data['data_samples'] for sample in view):
            if sample.metainfo.get('flip') and sample.flip_direction == 'diagonal':
                sample.set_metainfo(dict(flip=False))  # merge_preds still needs the direction
        merged: list[Any] = super().test_step(data)
        return merged

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the samples of each pair into its first one.

        Args:
            data_samples_list: For each pair, the samples of its views.

        Returns:
            Samples with ``pred_sem_seg`` and ``seg_logits``: the mean probability of one channel, as the detector
            returns it, or the logarithms of the two classes' mean probabilities.
        """
        for samples in data_samples_list:
            views = torch.stack([_undo_diagonal_flip(sample) for sample in samples])
            if views.shape[1] == 1:
                merged = views.mean(0)
                threshold: Any = decision_threshold(self.module)
                changed = (merged > threshold).to(merged)
            else:
                merged = views.log_softmax(1).logsumexp(0) - math.log(len(views))
                changed = merged.argmax(0, keepdim=True)
            samples[0].set_data(dict(seg_logits=PixelData(data=merged), pred_sem_seg=PixelData(data=changed)))
        return [samples[0] for samples in data_samples_list]


def _undo_diagonal_flip(sample: Any) -> torch.Tensor:
    logits: torch.Tensor = sample.seg_logits.data
    return logits.flip(1, 2) if sample.metainfo.get('flip_direction') == 'diagonal' else logits
