"""Hook that stores the results of evaluations."""

import json
import logging
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmseg.engine import SegVisualizationHook

from ifn_plugin.datasets import check_views
from ifn_plugin.engine.loops.protocols_loop import ProtocolsTestLoop
from ifn_plugin.engine.utils import detector_of
from ifn_plugin.evaluation import ChangeMetric
from ifn_plugin.evaluation.records import collect_records
from ifn_plugin.fileio import write_atomic
from ifn_plugin.registry import HOOKS

# Key of the threshold chosen in validation, in mmengine's message hub, which checkpoints include
_CHOSEN = 'change_threshold'


def _hand_over_threshold(runner: Runner, evaluator: Evaluator) -> None:
    for metric in evaluator.metrics:
        if isinstance(metric, ChangeMetric):
            metric.threshold = getattr(getattr(detector_of(runner), 'decode_head', None), 'threshold', None)


@HOOKS.register_module()
class EvaluationHook(Hook):
    """Store the results of ``ChangeMetric``.

    The threshold chosen in validation is saved in the checkpoints of that iteration, the best one included, and tests
    of these checkpoints use it. The counts behind the metrics, for curves and for the best and worst pairs, are written
    to files in the log folder, with the configuration and the iteration of the weights:
    ``evaluation_val.json`` for the last validation, and ``evaluation_test.json``.
    """

    # after mmengine's EMAHook, which swaps in the weights to validate, and before checkpoints are written
    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self._tested: dict[str, Any] = {}
        self._starts = False
        self._config: str | None = None

    def before_run(self, runner: Runner) -> None:
        """Remember whether the next checkpoint to be loaded is the one that the run starts from.

        The program may load others itself, and hooks do not learn their names.

        Raises:
            ValueError: If mmseg's ``SegVisualizationHook`` is to draw: it supports only one image per sample.
        """
        if any(type(hook) is SegVisualizationHook and hook.draw for hook in runner.hooks):
            raise ValueError("mmseg's SegVisualizationHook draws one image, and a pair has two. Fix: "
                             "default_hooks.visualization=dict(type='ifn_plugin.ChangePanelHook', draw=True).")
        self._starts = not runner._has_loaded

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Reset the threshold and the checkpoint, which belong to the weights before this iteration."""
        runner.message_hub.update_info(_CHOSEN, None)
        self._tested = {}

    def before_val_epoch(self, runner: Runner) -> None:
        """Copy the buffers of the first process to all: they are the running statistics that checkpoints store."""
        for buffer in runner.model.buffers():
            broadcast(buffer)
        _hand_over_threshold(runner, runner.val_loop.evaluator)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Store the threshold and write the record of the validation."""
        chosen = [value for name, value in (metrics or {}).items() if name.rpartition('/')[2] == 'threshold@val']
        if chosen:
            runner.message_hub.update_info(_CHOSEN, chosen[0])
        self._write(runner, 'val', collect_records(runner.val_loop.evaluator), self._tested or self._trained(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the threshold from the checkpoint."""
        info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
        chosen = info.get(_CHOSEN)
        runner.message_hub.update_info(_CHOSEN, chosen if isinstance(chosen, float) else None)
        name, self._starts = runner._load_from if self._starts else None, False
        self._tested = dict(
            checkpoint=name and str(name),
            iteration=(checkpoint.get('meta') or {}).get('iter'))

    def before_test(self, runner: Runner) -> None:
        """Pass the thresholds to the metrics, and prevent them from choosing one on the test data.

        Raises:
            ValueError: As in :func:`ifn_plugin.datasets.views.check_views`.
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
        """Write the record of the test."""
        loop = runner.test_loop
        records = loop.records if isinstance(loop, ProtocolsTestLoop) else collect_records(loop.evaluator)
        self._write(runner, 'test', records, self._tested or self._trained(runner))

    @staticmethod
    def _trained(runner: Runner) -> dict[str, Any]:
        # runner.iter would build the training data set
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return {}
        # epoch-based training names checkpoints by epoch
        epoch = dict(epoch=loop.epoch) if isinstance(loop, EpochBasedTrainLoop) else {}
        return dict(iteration=loop.iter) | epoch

    @master_only
    def _write(self, runner: Runner, split: str, records: dict[str, dict], about: dict[str, Any]) -> None:
        if records:
            if self._config is None:  # formatting is slow
                self._config = runner.cfg.pretty_text
            content = json.dumps(dict(about, config=self._config, protocols=records))
            write_atomic(content.encode(), Path(runner.log_dir, f'evaluation_{split}.json'))
