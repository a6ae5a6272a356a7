"""Metrics of binary change detection."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from .registry import METRICS


@METRICS.register_module()
class ChangeMetric(BaseMetric):
    """Precision, recall, F1 and IoU of the class "changed", in percent, over all pixels of the data set together.

    Args:
        ignore_index: The label's value for pixels that do not count.
        kwargs: ``BaseMetric``'s, such as ``prefix``.
    """

    def __init__(self, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count hits, false alarms and misses of each sample.

        Args:
            data_batch: Not used.
            data_samples: Each with ``pred_sem_seg`` and ``gt_sem_seg``, (1, H, W): 1 is "changed".

        Raises:
            ValueError: If a label has another size than the prediction, or values other than 0, 1 and
                ``ignore_index``.
        """
        for sample in data_samples:
            predicted = sample['pred_sem_seg']['data'].squeeze(0)
            label = sample['gt_sem_seg']['data'].squeeze(0).to(predicted.device)
            place = f'{sample.get("seg_map_path", "label")}: '
            if predicted.shape != label.shape:
                raise ValueError(f'{place}the label is {tuple(label.shape)}, the change map {tuple(predicted.shape)}.')
            counted = label != self.ignore_index
            changed, found = label == 1, (predicted == 1) & counted
            if not (changed | (label == 0) | ~counted).all():
                raise ValueError(f'{place}the label has values other than 0, 1 and {self.ignore_index}.')
            hits = (found & changed).sum()
            self.results.append(torch.stack((hits, found.sum() - hits, changed.sum() - hits)).tolist())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``Precision``, ``Recall``, ``F1``, ``IoU`` in percent; 0 where there is nothing to divide by."""
        hits, false_alarms, misses = (sum(result[i] for result in results) for i in range(3))
        if hits + misses == 0:
            print_log('ChangeMetric: no label has a changed pixel, so precision, recall, F1 and IoU mean nothing.',
                      'current', logging.WARNING)

        def percent(part: int, whole: int) -> float:
            return 100 * part / whole if whole else 0.

        return {
            'Precision': percent(hits, hits + false_alarms),
            'Recall': percent(hits, hits + misses),
            'F1': percent(2 * hits, 2 * hits + false_alarms + misses),
            'IoU': percent(hits, hits + false_alarms + misses),
        }
