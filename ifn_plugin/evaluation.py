"""Evaluation of binary change detection: metrics, both protocols of the field, and what is kept of an evaluation."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce, broadcast, get_dist_info, master_only
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner, TestLoop
from mmseg.engine import SegVisualizationHook
from torch import Tensor

from .acceleration import detector_of
from .data import check_views
from .fileio import write_atomic
from .registry import HOOKS, LOOPS, METRICS
from .training import list_files

# Where the threshold chosen in validation lies in mmengine's message hub, which is stored with checkpoints
_CHOSEN = 'change_threshold'
# Probabilities are counted between these: hundredths, which people set, and steps of the logit, since a trained network
# is sure of most pixels. torchmetrics' binned curve would compare every pixel with every threshold, where a look into a
# sorted list is as exact.
THRESHOLDS = torch.unique(
    torch.cat((torch.arange(1, 100, dtype=torch.float64) / 100,
               torch.linspace(-16, 16, 1281, dtype=torch.float64).sigmoid())).float())
# Between these lies the threshold of a detector that is not known
_PLAUSIBLE = 0.001, 0.999


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


@METRICS.register_module()
class ChangeMetric(BaseMetric):
    """Scores of the class "changed", in percent, over all pixels of the data set together.

    - ``Precision``, ``Recall``, ``F1``, ``IoU``, ``OA`` and ``Kappa`` of the detector's change maps, at the threshold
      that its configuration sets;
    - where the detector gives probabilities, the same at 0.5 (``F1@0.5`` and so on), and ``AP``, average precision in
      steps of ``THRESHOLDS``: too low for a network whose logits all lie within a few hundredths of each other;
    - with ``choose_threshold``, meant for validation, ``threshold@val``, the one of ``THRESHOLDS`` with the highest F1,
      and the scores at it (``F1@val`` and so on). In a test, the same at the threshold that validation chose for the
      checkpoint, which :class:`EvaluationHook` hands over.

    Memory does not grow with the data set, but for four counts and a name for each pair.

    Args:
        choose_threshold: Choose a threshold from the data that are evaluated.
        ignore_index: The label's value for pixels that do not count.
        kwargs: ``BaseMetric``'s, such as ``prefix``.

    Attributes:
        chosen_threshold: What validation chose.
        threshold: The detector's, which :class:`EvaluationHook` hands over: what its change maps are compared with.
        record: Of the last evaluation, in the first process: ``metrics``; ``pairs``, the files (dates and label),
            counts and scores of each; and ``curve``, the counts of all pixels at each of ``THRESHOLDS``.
    """

    def __init__(self, choose_threshold: bool = False, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choose_threshold = choose_threshold
        self.ignore_index = ignore_index
        self.chosen_threshold: float | None = None
        self.threshold: float | None = None
        self.record: dict[str, Any] = {}
        self._start()

    def _start(self) -> None:
        self._fits, self._probable = True, False
        self._range = _PLAUSIBLE
        # unchanged and changed pixels between the thresholds
        self._histogram = torch.zeros(2, len(THRESHOLDS) + 1, dtype=torch.int64)
        self._last = self._histogram

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each sample.

        Args:
            data_batch: Not used.
            data_samples: Each with ``pred_sem_seg`` and ``gt_sem_seg``, (1, H, W): 1 is "changed"; and, if there are
                probabilities, ``seg_logits`` as mmseg's detectors give them: a probability, (1, H, W), or the logits of
                two classes, (2, H, W).

        Raises:
            ValueError: If there is no label, it has another size than the prediction, or values other than 0, 1 and
                ``ignore_index``, or a probability is not a number.
        """
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise ValueError(f'{sample.get("img_path") or "sample"}: no label, which ChangeMetric needs. For pairs '
                                 'without labels there is python -m ifn_plugin.tools.predict.')
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
            false_alarms, misses = found.sum() - hits, changed.sum() - hits
            counts = torch.stack((hits, false_alarms, misses, counted.sum() - hits - false_alarms - misses)).tolist()
            self.results.append(([*list_files(sample.get('img_path')), sample.get('seg_map_path')], *counts))
            # kept apart: it does not count if a sampler has only repeated it, so that all processes have as many
            self._histogram = self._histogram + self._last
            self._last = self._count(sample, predicted == 1, changed, counted, place)

    def _count(self, sample: dict, predicted: Tensor, changed: Tensor, counted: Tensor, place: str) -> Tensor:
        if 'seg_logits' not in sample or not self._fits:
            return torch.zeros_like(self._histogram)
        self._probable = True
        given = sample['seg_logits']['data']
        logits = given.float()
        # mmseg has taken the sigmoid of a single channel
        probability = logits[0] if len(logits) == 1 else logits.softmax(dim=0)[1]
        if not probability.isfinite().all():
            raise ValueError(f'{place}the detector gives probabilities that are not finite.')
        # as with mmseg's SegTTAModel, which merges the maps and leaves the probabilities of one of the views
        self._fits = self._follows(predicted, given)
        if not self._fits:
            print_log(f'{place}the change map does not follow from the probabilities, so they are left out. Fix, if '
                      "this is --tta: tta_model=dict(type='ifn_plugin.ChangeTTAModel').", 'current', logging.WARNING)
            return torch.zeros_like(self._histogram)
        size = self._histogram.shape[1]
        bins = torch.bucketize(probability, THRESHOLDS.to(probability.device)) + size * changed
        return torch.bincount(bins[counted], minlength=2 * size).reshape(2, size).cpu()

    def _follows(self, predicted: Tensor, logits: Tensor) -> bool:
        """Whether a change map is what one threshold for all maps, or the more probable class, makes of the logits."""
        if len(logits) > 1:
            return torch.equal(predicted, logits.argmax(dim=0) == 1)
        probability = logits[0]
        if self.threshold is not None:
            return torch.equal(predicted, probability > self.threshold)
        # the threshold lies above all unchanged pixels and below all changed ones, of all maps so far
        low, high = (probability.new_tensor([limit]) for limit in self._range)
        low = torch.cat((low, probability[~predicted])).max()
        high = torch.cat((high, probability[predicted])).min()
        self._range = low.item(), high.item()
        return bool(low < high)

    def evaluate(self, size: int) -> dict:
        """Compute the metrics over all processes.

        Args:
            size: Number of samples of the data set.

        Returns:
            The metrics.
        """
        rank, processes = get_dist_info()
        if (len(self.results) - 1) * processes + rank < size:
            self._histogram = self._histogram + self._last
        found = torch.tensor([not self._fits, self._probable]).long()
        all_reduce(found)
        all_reduce(self._histogram)
        # kept where no pixel has counted, too: what looks for F1@val in each validation finds it
        misfits, self._probable = map(bool, found)
        self._fits = not misfits
        metrics: dict = super().evaluate(size)
        self._start()
        return metrics

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The metrics, from counts of each pair."""
        hits, false_alarms, misses, rejections = (sum(result[i] for result in results) for i in range(1, 5))
        if hits + misses == 0:
            print_log('ChangeMetric: no label has a changed pixel, so precision, recall, F1 and IoU mean nothing.',
                      'current', logging.WARNING)
        metrics = scores(hits, false_alarms, misses, rejections)
        self.record = dict(metrics=metrics, pairs=[
            dict(files=files, counts=counts) | scores(*counts) for files, *counts in results])
        if self._probable and self._fits:
            curve = self._curve()
            self.record['curve'] = dict(
                zip(('thresholds', 'hits', 'false_alarms', 'misses', 'rejections'),
                    (THRESHOLDS.tolist(), *curve.tolist())))
            metrics |= _at(curve, 0.5, '@0.5')
            metrics['AP'] = _average_precision(curve)
            threshold = _best_threshold(curve) if self.choose_threshold else self.chosen_threshold
            if threshold is not None:
                metrics |= {'threshold@val': threshold} | _at(curve, threshold, '@val')
        return metrics

    def _curve(self) -> Tensor:
        """Hits, false alarms, misses and correct rejections at each threshold, (4, T)."""
        above = self._histogram.flip(1).cumsum(1).flip(1)[:, 1:]
        (false_alarms, hits), (unchanged, changed) = above, self._histogram.sum(1)
        return torch.stack((hits, false_alarms, changed - hits, unchanged - false_alarms))


def _at(curve: Tensor, threshold: float, suffix: str) -> dict[str, float]:
    index = int(torch.searchsorted(THRESHOLDS, torch.tensor(threshold)))
    return {name + suffix: value for name, value in scores(*curve[:, index].tolist()).items()}


def _best_threshold(curve: Tensor) -> float:
    hits, false_alarms, misses = curve[:3].double()
    f1 = 2 * hits / (2 * hits + false_alarms + misses).clamp(min=1)
    # the middle one, where several are best
    best = (f1 == f1.max()).nonzero()
    return float(THRESHOLDS[best[len(best) // 2]])


def _average_precision(curve: Tensor) -> float:
    """Mean precision over recall, in steps as scikit-learn's, in percent."""
    hits, false_alarms, misses, rejections = curve.double()
    changed, unchanged = hits[:1] + misses[:1], false_alarms[:1] + rejections[:1]
    # from the strictest threshold to none
    hits, false_alarms = torch.cat((hits.flip(0), changed)), torch.cat((false_alarms.flip(0), unchanged))
    precision = hits / (hits + false_alarms).clamp(min=1)
    steps = hits.diff(prepend=hits.new_zeros(1)) / changed.clamp(min=1)
    return float(100 * (precision * steps).sum())


@LOOPS.register_module()
class ProtocolsTestLoop(TestLoop):
    """Test by several protocols, one after the other, with the metrics of all side by side.

    What the field calls testing on 256×256 tiles is a sliding window of 256 pixels without overlap: every tile passes
    the network by itself.

    Args:
        runner: The runner.
        dataloader: The test data, whole images.
        evaluator: The metrics.
        protocols: mmseg's ``test_cfg`` of each, by name; the name becomes the prefix of its metrics. By default
            ``whole`` and ``tiles``.
        kwargs: ``TestLoop``'s.

    Attributes:
        records: ``ChangeMetric``'s record of each protocol.
        protocol: The name of the one that is at work.
    """

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, protocols: dict[str, dict] | None = None,
                 **kwargs: Any) -> None:
        super().__init__(runner, dataloader, evaluator, **kwargs)
        self.protocols = protocols or dict(
            whole=dict(mode='whole'), tiles=dict(mode='slide', crop_size=(256, 256), stride=(256, 256)))
        self.records: dict[str, dict] = {}
        self.protocol = ''

    def run(self) -> dict:
        """Test."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        model = detector_of(self.runner)
        configured, metrics = model.test_cfg, {}
        try:
            for name, settings in self.protocols.items():
                self.protocol, model.test_cfg = name, ConfigDict(settings)
                for index, batch in enumerate(self.dataloader):
                    self.run_iter(index, batch)
                found = self.evaluator.evaluate(len(self.dataloader.dataset))
                metrics.update({f'{name}/{key}': value for key, value in found.items()})
                self.records.update(_records(self.evaluator, name))
        finally:
            model.test_cfg = configured
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics


def _records(evaluator: Evaluator, protocol: str = '') -> dict[str, dict]:
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, ChangeMetric)]
    # several differ in their prefixes
    return {'/'.join(filter(None, (protocol, metric.prefix if len(metrics) > 1 else ''))): metric.record
            for metric in metrics}


def _hand_over_threshold(runner: Runner, evaluator: Evaluator) -> None:
    for metric in evaluator.metrics:
        if isinstance(metric, ChangeMetric):
            metric.threshold = getattr(getattr(detector_of(runner), 'decode_head', None), 'threshold', None)


@HOOKS.register_module()
class EvaluationHook(Hook):
    """Keep what ``ChangeMetric`` finds.

    The threshold that validation chose goes into the checkpoint that it was chosen for, the best, and from there into a
    test. The counts behind the metrics, for curves and for the best and worst pairs, go into files in the folder of the
    log, with the configuration and the iteration of the weights: ``evaluation_val.json``, of the last validation, and
    ``evaluation_test.json``.
    """

    # after mmengine's EMAHook, which exchanges the weights that are validated, and before checkpoints are written
    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self._tested: dict[str, Any] = {}
        self._starts = False
        self._config: str | None = None

    def before_run(self, runner: Runner) -> None:
        """Note whether the checkpoint that comes next is the one that the run starts from.

        The program may load others by itself, whose names no hook is told.

        Raises:
            ValueError: If mmseg's ``SegVisualizationHook`` is to draw, which takes one image a sample.
        """
        if any(type(hook) is SegVisualizationHook and hook.draw for hook in runner.hooks):
            raise ValueError("mmseg's SegVisualizationHook draws one image, and a pair has two. Fix: "
                             "default_hooks.visualization=dict(type='ifn_plugin.ChangePanelHook', draw=True).")
        self._starts = not runner._has_loaded

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Forget the threshold and the checkpoint, which were those of the weights before."""
        runner.message_hub.update_info(_CHOSEN, None)
        self._tested = {}

    def before_val_epoch(self, runner: Runner) -> None:
        """Validate what is saved, the first process's running statistics of normalizations, in all of them."""
        for buffer in runner.model.buffers():
            broadcast(buffer)
        _hand_over_threshold(runner, runner.val_loop.evaluator)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note the threshold and write the record of a validation."""
        chosen = [value for name, value in (metrics or {}).items() if name.rpartition('/')[2] == 'threshold@val']
        if chosen:
            runner.message_hub.update_info(_CHOSEN, chosen[0])
        self._write(runner, 'val', _records(runner.val_loop.evaluator), self._tested or self._trained(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the threshold."""
        info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
        chosen = info.get(_CHOSEN)
        runner.message_hub.update_info(_CHOSEN, chosen if isinstance(chosen, float) else None)
        name, self._starts = runner._load_from if self._starts else None, False
        self._tested = dict(
            checkpoint=name and str(name),
            iteration=(checkpoint.get('meta') or {}).get('iter'))

    def before_test(self, runner: Runner) -> None:
        """Hand the thresholds to the metrics, and let none choose one from what it is to be tested on.

        Raises:
            ValueError: As :func:`ifn_plugin.data.check_views`.
        """
        check_views(runner.test_loop.dataloader.dataset)
        _hand_over_threshold(runner, runner.test_loop.evaluator)
        for metric in runner.test_loop.evaluator.metrics:
            if isinstance(metric, ChangeMetric):
                metric.chosen_threshold = runner.message_hub.runtime_info.get(_CHOSEN)
                if metric.choose_threshold:
                    print_log("test_evaluator has choose_threshold=True: a test takes validation's threshold.",
                              'current', logging.WARNING)
                    metric.choose_threshold = False

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the record of a test."""
        loop = runner.test_loop
        records = loop.records if isinstance(loop, ProtocolsTestLoop) else _records(loop.evaluator)
        self._write(runner, 'test', records, self._tested or self._trained(runner))

    @staticmethod
    def _trained(runner: Runner) -> dict[str, Any]:
        # runner.iter would build the training's data set if there is none yet
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return {}
        # checkpoints are named by it then
        epoch = dict(epoch=loop.epoch) if isinstance(loop, EpochBasedTrainLoop) else {}
        return dict(iteration=loop.iter) | epoch

    @master_only
    def _write(self, runner: Runner, split: str, records: dict[str, dict], about: dict[str, Any]) -> None:
        if records:
            if self._config is None:  # which takes a moment
                self._config = runner.cfg.pretty_text
            content = json.dumps(dict(about, config=self._config, protocols=records))
            write_atomic(content.encode(), Path(runner.log_dir, f'evaluation_{split}.json'))
