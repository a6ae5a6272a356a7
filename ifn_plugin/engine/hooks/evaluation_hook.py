"""Hook that stores the results of evaluations."""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, broadcast_object_list, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmseg.engine import SegVisualizationHook

from ifn_plugin.datasets import check_views
from ifn_plugin.engine.loops.protocols_loop import ProtocolsTestLoop
from ifn_plugin.engine.utils import detector_of
from ifn_plugin.evaluation import ChangeMetric, change_probability
from ifn_plugin.evaluation.kept_maps import MAPS, map_name, write_map
from ifn_plugin.evaluation.metric import collect_records
from ifn_plugin.fileio import write_atomic
from ifn_plugin.models.decision import decision_threshold
from ifn_plugin.registry import HOOKS
from ifn_plugin.utils.configurations import format_config
from ifn_plugin.utils.samples import absolute, pair_files
from ifn_plugin.version import __version__

# Key of the threshold chosen in validation, in mmengine's message hub, which checkpoints include
_CHOSEN = 'change_threshold'


def find_threshold(checkpoint: dict[str, Any]) -> float | None:
    """Return the threshold that validation chose for the weights of a checkpoint; ``None`` if it chose none."""
    info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    chosen = info.get(_CHOSEN)
    return chosen if isinstance(chosen, float) else None


def _start_metrics(runner: Runner, evaluator: Evaluator) -> list[ChangeMetric]:
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, ChangeMetric)]
    for metric in metrics:
        metric.start()
        metric.threshold = decision_threshold(detector_of(runner))
    return metrics


def _versions() -> dict[str, str]:
    versions = dict(ifn_plugin=__version__, torch=torch.__version__)
    for name in ('open-cd', 'onedl-mmsegmentation', 'mmsegmentation', 'mmengine'):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@HOOKS.register_module()
class EvaluationHook(Hook):
    """Store the results of ``ChangeMetric``.

    The threshold chosen in validation is saved in the checkpoints of that iteration, the best one included, and tests
    of these checkpoints use it. The counts behind the metrics, for curves and for the best and worst pairs, are written
    to files in the log folder, with the configuration, the iteration of the weights and what else tells what was
    evaluated: ``evaluation_val.json`` for the last validation, and ``evaluation_test.json``. A test also keeps its
    change maps, in the folder ``maps``: see :mod:`ifn_plugin.evaluation.kept_maps`.

    Args:
        keep_maps: Whether a test keeps its change maps, about as large as the labels, for the command ``report``.
    """

    # after mmengine's EMAHook, which swaps in the weights to validate, and before checkpoints are written
    priority = 'BELOW_NORMAL'

    def __init__(self, keep_maps: bool = True) -> None:
        self.keep_maps = keep_maps
        self._tested: dict[str, Any] = {}
        self._starts = False
        self._config: str | None = None
        self._folder: Path | None = None

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
        _start_metrics(runner, runner.val_loop.evaluator)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Store the threshold and write the record of the validation."""
        chosen = [value for name, value in (metrics or {}).items() if name.rpartition('/')[2] == 'threshold@val']
        if chosen:
            runner.message_hub.update_info(_CHOSEN, chosen[0])
        self._write(runner, 'val', collect_records(runner.val_loop.evaluator), self._tested or self._trained(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the threshold from the checkpoint."""
        runner.message_hub.update_info(_CHOSEN, find_threshold(checkpoint))
        name, self._starts = runner._load_from if self._starts else None, False
        self._tested = dict(
            checkpoint=name and absolute(name),
            iteration=(checkpoint.get('meta') or {}).get('iter'))

    def before_test(self, runner: Runner) -> None:
        """Pass the thresholds to the metrics, and prevent them from choosing one on the test data.

        Raises:
            ValueError: As in :func:`ifn_plugin.datasets.views.check_views`.
        """
        check_views(runner.test_loop.dataloader.dataset)
        self._folder = self._folder or _claim_folder(runner.log_dir)
        for metric in _start_metrics(runner, runner.test_loop.evaluator):
            metric.chosen_threshold = runner.message_hub.runtime_info.get(_CHOSEN)
            if metric.choose_threshold:
                print_log("test_evaluator has choose_threshold=True: a test takes validation's threshold.",
                          'current', logging.WARNING)
                metric.choose_threshold = False

    def after_test_iter(self,
                        runner: Runner,
                        batch_idx: int,
                        data_batch: Any = None,
                        outputs: Sequence[Any] | None = None) -> None:
        """Keep the change maps of the batch."""
        if not self.keep_maps or not any(isinstance(m, ChangeMetric) for m in runner.test_loop.evaluator.metrics):
            return
        folder = Path(self._folder or runner.log_dir, MAPS, getattr(runner.test_loop, 'protocol', ''))
        for sample in outputs or ():
            files = pair_files(sample)
            if 'seg_logits' in sample and 'gt_sem_seg' in sample and len(files) > 1:
                probability = change_probability(sample.seg_logits.data)
                label = sample.gt_sem_seg.data.squeeze(0).to(probability.device)
                write_map(folder / map_name(files), probability, label)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the record of the test."""
        loop = runner.test_loop
        records = loop.records if isinstance(loop, ProtocolsTestLoop) else collect_records(loop.evaluator)
        self._write(runner, 'test', records, self._tested or self._trained(runner))
        if self._folder is not None and is_main_process():
            with suppress(OSError):  # it is not empty
                (self._folder / MAPS).rmdir()

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
                self._config = format_config(runner.cfg)
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            content = json.dumps(dict(
                about, date=datetime.now().isoformat(' ', 'seconds'), seed=runner.seed, versions=_versions(),
                tta=isinstance(model, BaseTTAModel), maps=split == 'test' and self.keep_maps, config=self._config,
                protocols=records))
            folder = self._folder if split == 'test' else None
            write_atomic(content.encode(), Path(folder or runner.log_dir, f'evaluation_{split}.json'))


def _claim_folder(log_dir: str) -> Path:
    """Return the log folder, or one beside it if another test has begun there in the same second, as mmengine names it.

    Where a test begins, there is a folder for its maps.
    """
    claimed = ['']
    if is_main_process():
        for number in count():
            folder = Path(f'{log_dir}_{number}' if number else log_dir)
            with suppress(FileExistsError):
                (folder / MAPS).mkdir(parents=True)
                claimed[0] = str(folder)
                break
    broadcast_object_list(claimed)
    return Path(claimed[0])
