"""Checkpoint hook for interruptible training."""

import locale
import logging
import re
import zipfile
from bisect import bisect
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ifn_plugin.engine.samplers import check_length
from ifn_plugin.engine.utils import advise
from ifn_plugin.fileio import write_atomic
from ifn_plugin.registry import HOOKS


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook for runs that may be killed at any time.

    A checkpoint is there as a whole or not at all, an outdated one goes only after the new one has come, and resuming
    takes the last whole one. In a training by iterations, a validation that the break cut off is made up for.

    Args:
        args, kwargs: ``CheckpointHook``'s.
    """

    backend_args: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        remote = '://' in str(self.out_dir)
        if self.backend_args is None and self.file_client_args is None and not remote:
            self.backend_args = dict(backend='ifn_plugin.whole')
        self._number_written = 0
        self._last_step: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Where ``last_checkpoint`` names no whole checkpoint, let it name the last one that is.

        If there is none, the training begins anew, with the weights that the configuration's ``begin_from`` names.
        """
        record = Path(runner.work_dir) / 'last_checkpoint'
        if not runner._resume or runner._load_from is not None:
            return
        if is_main_process() and record.is_file():
            self._repair(record, Path(runner.work_dir).name)
        barrier()  # before the others read it
        if not record.is_file():
            runner._load_from, runner._resume = runner.cfg.get('begin_from'), False
            print_log(f'{runner.work_dir} has no checkpoint to resume from: the training begins anew.', 'current',
                      logging.WARNING)

    def _repair(self, record: Path, run: str) -> None:
        named = record.read_text().strip()
        if '://' not in named and not (named and _is_whole(Path(named))):
            folders = {record.parent, *([Path(named).parent] if named else [])}
            if self.out_dir is not None:
                folders.add(Path(self.out_dir, run))
            pattern = re.escape(self.filename_tmpl).replace(r'\{\}', r'(\d+)')
            found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
            numbers = {path: re.fullmatch(pattern, path.name) for path in found}
            whole = {path: int(match[1]) for path, match in numbers.items() if match and _is_whole(path)}
            chosen = str(max(whole, key=whole.__getitem__)) if whole else None
            if chosen is None and named and not Path(named).parent.is_dir():
                return  # its disk may be away: mmengine stops, and says which file is missing
            print_log(f'{record} names no whole checkpoint ({named or "it is empty"}): '
                      + (f'going on from {chosen}.' if chosen else 'no other is whole either, starting anew.'),
                      'current', logging.WARNING)
            if chosen:
                # in the encoding in which mmengine writes and reads it
                write_atomic(chosen.encode(locale.getpreferredencoding(False)), record)
            else:
                record.unlink()

    def before_train(self, runner: Runner) -> None:
        """Validate a resumed run, if a validation should have followed its checkpoint, which is written before.

        Raises:
            ValueError: Where data loaders never end, so that nothing would ever be saved, or have no batches.
        """
        super().before_train(runner)
        loop, val_loop = runner.train_loop, runner.val_loop
        by_iterations = isinstance(loop, IterBasedTrainLoop)
        check_length(loop.dataloader, 'train_dataloader', endless=not isinstance(loop, EpochBasedTrainLoop))
        if val_loop is not None:
            check_length(val_loop.dataloader, 'val_dataloader')
        if by_iterations and self.by_epoch:
            print_log('The checkpoint hook has by_epoch=True, and training by iterations is one epoch: there is no '
                      'checkpoint before its end. Fix: default_hooks.checkpoint.by_epoch=False.', 'current',
                      logging.WARNING)
        if not by_iterations or loop.iter == 0:
            return
        if loop.iter >= loop.max_iters:
            print_log(f'Nothing is left to train: the checkpoint is of iteration {loop.iter}, and '
                      f'train_cfg.max_iters={loop.max_iters}.', 'current', logging.WARNING)
        # as the loop chooses it after an iteration
        interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, loop.iter + 1) - 1]
        due = loop.iter >= loop.val_begin and (loop.iter % interval == 0 or loop.iter == loop.max_iters)
        if val_loop is not None and due and runner.message_hub.runtime_info.get('last_validation') != loop.iter:
            runner.logger.info(f'Making up for the validation after iteration {loop.iter}.')
            val_loop.run()

    def before_test(self, runner: Runner) -> None:
        """Refuse test data that never end.

        Raises:
            ValueError: For an endless sampler, or if there are no batches.
        """
        check_length(runner.test_loop.dataloader, 'test_dataloader')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep the best checkpoint, unless nothing is trained, as in ``Runner.val`` alone.

        This iteration's checkpoint is written again, with what the validation has changed: thresholds, schedules.
        """
        if metrics and not hasattr(self, 'file_backend'):  # which before_train sets
            return
        runner.message_hub.update_info('last_validation', runner.iter)
        written = self._number_written
        super().after_val_epoch(runner, metrics)
        step = runner.epoch if self.by_epoch else runner.iter
        # mmengine has written it if it is the best so far
        if self._number_written == written and self._last_step == step:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        # mmengine would remove the former best first, so it is not told of it
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
            # not that of another run, of which this one's folder is a copy
            if path and path != paths[key] and is_main_process() and self._is_own(path):
                self._remove(path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to store weights that are not finite.

        Raises:
            FloatingPointError: With the first of them named.
        """
        for name, value in checkpoint['state_dict'].items():
            if not value.isfinite().all():
                raise FloatingPointError(f'After iteration {checkpoint["meta"]["iter"]}, {name} is not finite: no '
                                         f'checkpoint is written. {advise(runner)}')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        ids = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else ()
        if ids and len(ids) == self.max_keep_ckpts and ids[-1] != step:
            outdated = ids.popleft()  # mmengine would remove it first
        super()._save_checkpoint_with_step(runner, step, meta)
        self._number_written, self._last_step = self._number_written + 1, step
        if outdated is not None and is_main_process():
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated)))

    def _is_own(self, path: str) -> bool:
        return Path(path).parent.resolve() == Path(self.out_dir).resolve()

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's
            self.file_backend.rmtree(path)


def _is_whole(path: Path) -> bool:
    return zipfile.is_zipfile(path) or path.is_dir()  # DeepSpeed writes folders
