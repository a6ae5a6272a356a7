"""Checkpoint hook for interruptible training."""

import locale
import logging
import re
import zipfile
from bisect import bisect
from itertools import chain
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor

from ifn_plugin.engine.samplers import check_length
from ifn_plugin.engine.utils import advise, detector_of
from ifn_plugin.fileio import write_atomic
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` for runs that may be killed at any time.

    Checkpoints are written atomically, an outdated one is removed only after the new one has been written, and resuming
    takes the latest complete one. In iteration-based training, a validation that was interrupted is run on resuming.

    Args:
        args, kwargs: Arguments of ``CheckpointHook``.
    """

    backend_args: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        remote = '://' in str(self.out_dir)
        if self.backend_args is None and self.file_client_args is None and not remote:
            self.backend_args = dict(backend='ifn_plugin.whole')
        self._training = self._validating = False
        self._number_written = 0
        self._last_step: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Make ``last_checkpoint`` name the latest complete checkpoint.

        If there is none, training starts from scratch, with the weights that ``begin_from`` in the configuration names.
        """
        self._training = False
        record = Path(runner.work_dir) / 'last_checkpoint'
        if not runner._resume or runner._load_from is not None:
            return
        if is_main_process():
            self._repair(record, Path(runner.work_dir).name)
        barrier()  # the other processes read it
        if not record.is_file():
            runner._load_from, runner._resume = runner.cfg.get('begin_from'), False
            print_log(f'{runner.work_dir} has no checkpoint to resume from: starting a new training.', 'current',
                      logging.WARNING)

    def _repair(self, record: Path, run: str) -> None:
        named = record.read_text().strip() if record.is_file() else ''
        if '://' not in named and not (named and _is_complete(Path(named))):
            folders = {record.parent, *([Path(named).parent] if named else [])}
            if self.out_dir is not None:
                folders.add(Path(self.out_dir, run))
            found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
            complete = {path: step for path in found for step in map(int, re.findall(r'\d+', path.name))
                        if self.filename_tmpl.format(step) == path.name and _is_complete(path)}
            chosen = str(max(complete, key=complete.__getitem__)) if complete else None
            if chosen is None and named and not Path(named).parent.is_dir():
                return  # its disk may not be mounted: mmengine stops, and says which file is missing
            if chosen or record.is_file():
                print_log(f'{record} does not name a complete checkpoint ({named or "it is missing or empty"}): '
                          + (f'resuming from {chosen}.' if chosen else
                             'there is no other complete one, starting a new training.'), 'current', logging.WARNING)
            if chosen:
                # mmengine reads and writes this file in the locale's encoding
                write_atomic(chosen.encode(locale.getpreferredencoding(False)), record)
            else:
                record.unlink(missing_ok=True)

    def before_train(self, runner: Runner) -> None:
        """Check the data loaders, and run the validation that a resumed run has missed.

        The checkpoint is written before the validation that is due at the same iteration.

        Raises:
            ValueError: If a data loader never ends, so that nothing would ever be saved, or has no batches.
        """
        super().before_train(runner)
        self._training = True
        loop, val_loop = runner.train_loop, runner.val_loop
        by_iterations = isinstance(loop, IterBasedTrainLoop)
        check_length(loop.dataloader, 'train_dataloader', endless=not isinstance(loop, EpochBasedTrainLoop))
        if val_loop is not None:
            check_length(val_loop.dataloader, 'val_dataloader')
        if by_iterations and self.by_epoch:
            print_log('The checkpoint hook has by_epoch=True, but iteration-based training is a single epoch: there is '
                      'no checkpoint before its end. Fix: default_hooks.checkpoint.by_epoch=False.', 'current',
                      logging.WARNING)
        if not by_iterations or loop.iter == 0:
            return
        if loop.iter >= loop.max_iters:
            print_log(f'Nothing is left to train: the checkpoint is from iteration {loop.iter}, and '
                      f'train_cfg.max_iters={loop.max_iters}.', 'current', logging.WARNING)
        # the loop chooses the interval in the same way after an iteration
        interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, loop.iter + 1) - 1]
        due = loop.iter >= loop.val_begin and (loop.iter % interval == 0 or loop.iter == loop.max_iters)
        if val_loop is not None and due and runner.message_hub.runtime_info.get('last_validation') != loop.iter:
            runner.logger.info(f'Running the missed validation after iteration {loop.iter}.')
            self._last_step = loop.iter  # the run that was interrupted has written it
            val_loop.run()

    def before_test(self, runner: Runner) -> None:
        """Reject test data that never end.

        Raises:
            ValueError: If the sampler is endless, or there are no batches.
        """
        check_length(runner.test_loop.dataloader, 'test_dataloader')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint, except in ``Runner.val``, which trains nothing.

        The checkpoint of this iteration is written again, since the validation has changed thresholds and schedules.
        """
        if not self._training:
            return
        runner.message_hub.update_info('last_validation', runner.iter)
        written, self._validating = self._number_written, True
        super().after_val_epoch(runner, metrics)
        step = runner.epoch if self.by_epoch else runner.iter
        # mmengine has already written it again if it is the best so far
        if self._number_written == written and self._last_step == step:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))
        self._validating = False

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        # hide the former best checkpoint: mmengine would remove it before it writes the new one
        one = len(self.key_indicators) == 1
        paths: dict[str, Any] = self.__dict__ if one else self.best_ckpt_path_dict
        keys = ['best_ckpt_path'] if one else self.key_indicators
        former = {key: paths.get(key) for key in keys}
        paths.update(dict.fromkeys(keys))
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            for key, path in former.items():
                paths[key] = paths[key] or path
        for key, path in former.items():
            # keep that of another run, whose work_dir was copied to start this one
            if path and path != paths[key] and is_main_process() and self._is_own(path):
                self._remove(path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Reject NaN or infinite weights.

        Raises:
            FloatingPointError: If a weight is NaN or infinite; the first one is named.
        """
        if self._validating:  # FlexibleRunner takes it for one step less
            checkpoint['meta'].update(epoch=runner.epoch, iter=runner.iter)
        # of the other buffers, such as masks, some are infinite on purpose
        buffers = {name for name, _ in detector_of(runner).named_buffers() if not name.endswith(('_mean', '_var'))}
        # with EMAHook, these are the averages, and the weights that are trained are stored beside, as "module.…"
        trained = checkpoint.get('ema_state_dict', {})
        for key, value in chain(checkpoint['state_dict'].items(), trained.items()):
            name = key.removeprefix('module.')
            if isinstance(value, Tensor) and name not in buffers and not value.isfinite().all():
                raise FloatingPointError(f'After iteration {checkpoint["meta"]["iter"]}, {name} is not finite: no '
                                         f'checkpoint is saved. {advise(runner)}')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        ids = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else ()
        if ids and len(ids) == self.max_keep_ckpts and ids[-1] != step:
            outdated = ids.popleft()  # mmengine would remove it before it writes the new one
        super()._save_checkpoint_with_step(runner, step, meta)
        self._number_written, self._last_step = self._number_written + 1, step
        if outdated is not None and is_main_process():
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated)))

    def _is_own(self, path: str) -> bool:
        return Path(path).parent.resolve() == Path(self.out_dir).resolve()

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed writes folders
            self.file_backend.rmtree(path)


def _is_complete(path: Path) -> bool:
    return zipfile.is_zipfile(path) or path.is_dir()  # DeepSpeed writes folders
