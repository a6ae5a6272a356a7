"""Metric of binary change detection."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from ifn_plugin.evaluation.thresholds import (
    THRESHOLDS,
    average_precision,
    best_threshold,
    change_probability,
    scores,
    scores_at,
)
from ifn_plugin.fileio import write_png
from ifn_plugin.registry import METRICS
from ifn_plugin.utils.samples import pair_files, sample_files

# Limits of a detector's threshold while it is unknown
_PLAUSIBLE = 0.001, 0.999


@METRICS.register_module()
class ChangeMetric(BaseMetric):
    """Scores of the class "changed", in percent, pooled over all pixels of the data set.

    - ``Precision``, ``Recall``, ``F1``, ``IoU``, ``OA`` and ``Kappa`` of the detector's change maps, at the threshold
      that its configuration sets;
    - if the detector gives probabilities, the same at 0.5 (``F1@0.5`` and so on), and ``AP``, average precision in
      steps of ``THRESHOLDS``: too low for a network whose logits all lie within a few hundredths of each other;
    - with ``choose_threshold``, meant for validation, ``threshold@val``, the one of ``THRESHOLDS`` with the highest F1,
      and the scores at this threshold (``F1@val`` and so on). In a test, the same at the threshold that validation
      chose for the checkpoint, which :class:`EvaluationHook` sets.

    Per pair, only four counts and the names of the files are kept in memory.

    Args:
        choose_threshold: Whether to choose a threshold on the evaluated data.
        ignore_index: Label value of the pixels to ignore.
        output_dir: Folder for the change maps, as of mmseg's ``IoUMetric``: PNG files of 0 and 1, named after date 2.
            ``--out`` of mmseg's test script sets it.
        keep_results: Unused; the script sets it, too.
        kwargs: Keyword arguments of ``BaseMetric``, such as ``prefix``.

    Attributes:
        chosen_threshold: Threshold chosen in validation.
        threshold: Threshold of the detector, set by :class:`EvaluationHook`, to check its change maps against its
            probabilities.
        record: Record of the last evaluation, in the first process: ``metrics``; ``pairs``, the files (dates and
            label), counts and scores of each; ``threshold``, the detector's; and ``curve``, the counts of all pixels at
            each of ``THRESHOLDS``.
    """

    def __init__(self, choose_threshold: bool = False, ignore_index: int = 255, output_dir: str | None = None,
                 keep_results: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_dir = output_dir
        self.choose_threshold = choose_threshold
        self.ignore_index = ignore_index
        self.chosen_threshold: float | None = None
        self.threshold: float | None = None
        self.record: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        """Forget what an evaluation that was broken off has counted."""
        self.results.clear()
        self._fits, self._probable = True, False
        self._range = _PLAUSIBLE
        # numbers of unchanged and of changed pixels between the thresholds
        self._histogram = torch.zeros(2, len(THRESHOLDS) + 1, dtype=torch.int64)
        self._last = self._histogram
        self._written: dict[str, list[str]] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each sample.

        Args:
            data_batch: Unused.
            data_samples: Samples with ``pred_sem_seg`` and ``gt_sem_seg``, (1, H, W): 1 is "changed"; and, if there are
                probabilities, ``seg_logits`` as mmseg's detectors return them: probabilities, (1, H, W), or the logits
                of two classes, (2, H, W).

        Raises:
            ValueError: If a label is missing, differs in size from the prediction, or has values other than 0, 1 and
                ``ignore_index``, if a probability is NaN or infinite, or if two maps would have the same name.
        """
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise ValueError(f'{sample.get("img_path") or "sample"}: no label, which ChangeMetric needs. Fix: for '
                                 'pairs without labels, use python -m ifn_plugin.tools.predict.')
            predicted = sample['pred_sem_seg']['data'].squeeze(0)
            label = sample['gt_sem_seg']['data'].squeeze(0).to(predicted.device)
            place = f'{sample.get("seg_map_path", "label")}: '
            if predicted.shape != label.shape:
                raise ValueError(f'{place}the label is {tuple(label.shape)}, the change map {tuple(predicted.shape)}.')
            counted = label != self.ignore_index
            changed, found = label == 1, (predicted == 1) & counted
            if not (changed | (label == 0) | ~counted).all():
                raise ValueError(f'{place}the label has values other than 0, 1 and {self.ignore_index}.')
            tp = (found & changed).sum()
            fp, fn = found.sum() - tp, changed.sum() - tp
            counts = torch.stack((tp, fp, fn, counted.sum() - tp - fp - fn)).tolist()
            self.results.append((pair_files(sample), *counts))
            if self.output_dir is not None:
                self._write(predicted, sample_files(sample.get('img_path')))
            # the last sample is kept apart: a sampler may have repeated one to give all processes the same number
            self._histogram = self._histogram + self._last
            self._last = self._count(sample, predicted == 1, changed, counted, place)

    def _write(self, predicted: Tensor, files: list[str]) -> None:
        path = Path(str(self.output_dir), f'{Path(files[-1]).stem}.png')
        if self._written.setdefault(path.name, files) != files:
            raise ValueError(f'The maps of {files[-1]} and {self._written[path.name][-1]} would both be {path}. Fix: '
                             'use python -m ifn_plugin.tools.predict.')
        write_png(Image.fromarray(predicted.byte().cpu().numpy()), path)

    def _count(self, sample: dict, predicted: Tensor, changed: Tensor, counted: Tensor, place: str) -> Tensor:
        if 'seg_logits' not in sample or not self._fits:
            return torch.zeros_like(self._histogram)
        self._probable = True
        given = sample['seg_logits']['data']
        probability = change_probability(given)
        if not probability.isfinite().all():
            raise ValueError(f'{place}the detector gives probabilities that are not finite.')
        # they disagree with mmseg's SegTTAModel, which merges the maps but keeps the probabilities of a single view
        self._fits = self._follows(predicted, given)
        if not self._fits:
            print_log(f'{place}the change map does not follow from the probabilities, so they are left out. Fix: with '
                      "--tta, set tta_model=dict(type='ifn_plugin.ChangeTTAModel').", 'current', logging.WARNING)
            return torch.zeros_like(self._histogram)
        size = self._histogram.shape[1]
        bins = torch.bucketize(probability, THRESHOLDS.to(probability.device)) + size * changed
        return torch.bincount(bins[counted], minlength=2 * size).reshape(2, size).cpu()

    def _follows(self, predicted: Tensor, logits: Tensor) -> bool:
        """Check that a change map follows from the logits, by one threshold for all maps or by the likelier class."""
        if len(logits) > 1:
            return torch.equal(predicted, logits.argmax(dim=0) == 1)
        probability = logits[0]
        if self.threshold is not None:
            return torch.equal(predicted, probability > self.threshold)
        # the unknown threshold lies above all unchanged and below all changed pixels of the maps so far
        low, high = (probability.new_tensor([limit]) for limit in self._range)
        low = torch.cat((low, probability[~predicted])).max()
        high = torch.cat((high, probability[predicted])).min()
        self._range = low.item(), high.item()
        return bool(low < high)

    def evaluate(self, size: int) -> dict:
        """Compute the metrics over all processes.

        Args:
            size: Number of samples in the data set.

        Returns:
            The metrics.
        """
        rank, processes = get_dist_info()
        if (len(self.results) - 1) * processes + rank < size:
            self._histogram = self._histogram + self._last
        found = torch.tensor([not self._fits, self._probable]).long()
        all_reduce(found)
        all_reduce(self._histogram)
        # scores of probabilities are given even if no pixel counts, since a checkpoint hook may look for F1@val
        misfits, self._probable = map(bool, found)
        self._fits = not misfits
        metrics: dict = super().evaluate(size)
        self.start()
        return metrics

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics from the counts of each pair."""
        tp, fp, fn, tn = (sum(result[i] for result in results) for i in range(1, 5))
        if tp + fn == 0:
            print_log('ChangeMetric: no label has a changed pixel, so precision, recall, F1 and IoU are meaningless.',
                      'current', logging.WARNING)
        elif fp and not fn + tn:
            # without the detector's threshold, which EvaluationHook sets, a map of one class fits any probabilities
            print_log('ChangeMetric: every pixel is called changed, as it may be after a few iterations; the scores '
                      'say nothing about the network. Fix: with --tta, set '
                      "tta_model=dict(type='ifn_plugin.ChangeTTAModel'); otherwise train longer, or look at the "
                      'weights and at decode_head.threshold.', 'current', logging.WARNING)
        metrics = scores(tp, fp, fn, tn)
        self.record = dict(metrics=metrics, threshold=self.threshold, pairs=[
            dict(files=files, counts=counts) | scores(*counts) for files, *counts in results])
        if self._probable and self._fits and self._histogram.sum() != tp + fp + fn + tn:
            print_log('ChangeMetric: the scores are of a part of what was evaluated, so those at other thresholds and '
                      'AP are left out. Fix: one evaluator for each data set.', 'current', logging.WARNING)
        elif self._probable and self._fits:
            curve = self._curve()
            self.record['curve'] = dict(
                zip(('thresholds', 'tp', 'fp', 'fn', 'tn'),
                    (THRESHOLDS.tolist(), *curve.tolist())))
            metrics |= scores_at(curve, 0.5, '@0.5')
            metrics['AP'] = average_precision(curve)
            threshold = best_threshold(curve) if self.choose_threshold else self.chosen_threshold
            if threshold is not None:
                metrics |= {'threshold@val': threshold} | scores_at(curve, threshold, '@val')
        return metrics

    def _curve(self) -> Tensor:
        """Count true positives, false positives, false negatives and true negatives at each threshold, (4, T)."""
        above = self._histogram.flip(1).cumsum(1).flip(1)[:, 1:]
        (fp, tp), (unchanged, changed) = above, self._histogram.sum(1)
        return torch.stack((tp, fp, changed - tp, unchanged - fp))


def collect_records(evaluator: Evaluator, protocol: str = '') -> dict[str, dict]:
    """Collect the record of each ``ChangeMetric``, by protocol and, if there are several metrics, by prefix."""
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, ChangeMetric)]
    # several metrics have different prefixes
    return {'/'.join(filter(None, (protocol, metric.prefix if len(metrics) > 1 else ''))): metric.record
            for metric in metrics}
