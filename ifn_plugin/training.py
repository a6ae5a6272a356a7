"""Runs that can be broken off anywhere: they resume exactly, keep whole checkpoints, and stop at an invalid loss."""

import locale
import logging
import random
import re
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner, find_latest_checkpoint
from torch.utils.data import DataLoader

from .fileio import write_atomic
from .registry import HOOKS, LOOPS


class _SeededIndex(int):
    """A sample's number, with the seed for what is random about it."""

    seed: tuple[int, ...]


def _seed_everything(*numbers: int) -> None:
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class _SeededDataset:
    """A data set, whatever wraps it: what is random about a sample follows from its place in the run alone."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: _SeededIndex) -> Any:
        _seed_everything(*index.seed)
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # while a worker unpickles it
            raise AttributeError(name)
        return getattr(self.dataset, name)


class _Batches(chain):

    def skip_iter(self, number: int) -> None:
        """As onedl-mmengine drops batches; mmengine calls ``next``."""
        for _ in range(number):
            next(self)


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):
    """mmengine's loop, with all that is random derived from the seed and the iteration.

    A resumed run goes on exactly as the unbroken one would have: with the same samples, crops and dropout, whatever the
    number of workers. It starts at once, while mmengine's loop first loads and drops every batch that has been trained.

    Args:
        runner: The runner.
        dataloader: The training data, with mmengine's ``InfiniteSampler``, or its settings.
        kwargs: ``IterBasedTrainLoop``'s.

    Raises:
        ValueError: For another sampler.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs: Any) -> None:
        loader = runner.build_dataloader(dataloader, seed=runner.seed)
        if not isinstance(loader.sampler, InfiniteSampler):
            raise ValueError('ResumableTrainLoop needs train_dataloader.sampler.type=InfiniteSampler, but it is '
                             f'{type(loader.sampler).__name__}.')
        # before the workers start, which have copies of it; DataLoader's own __setattr__ would refuse
        object.__setattr__(loader, 'dataset', _SeededDataset(loader.dataset))
        super().__init__(runner, loader, **kwargs)

    def _indices(self) -> Iterator[int]:
        """This process's samples from the current iteration on."""
        sampler: Any = self.dataloader.sampler
        sampler.seed = self._seed()
        first = self.iter * self.dataloader.batch_size * sampler.world_size + sampler.rank
        for place, number in islice(enumerate(sampler._infinite_indices()), first, None, sampler.world_size):
            index = _SeededIndex(number)
            index.seed = (sampler.seed, place)
            yield index

    def _seed(self) -> int:
        """One seed for all processes, which resuming may have set."""
        seed: int = self.runner.seed
        return seed - get_rank() if self.runner._randomness_cfg.get('diff_rank_seed') else seed

    def run(self) -> torch.nn.Module:
        """Train."""
        self.dataloader.sampler.indices = self._indices()
        # mmengine drops as many batches as there were iterations: let it drop nothing
        self.dataloader_iterator = _Batches(repeat(None, self.iter), iter(self.dataloader))
        self.fast_forward_on_resume = False  # onedl-mmengine's, which would leave that to chance
        model: torch.nn.Module = super().run()
        return model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train for one iteration."""
        _seed_everything(self._seed(), self.iter, get_rank(), 1)
        super().run_iter(data_batch)


@register_backend('ifn_plugin.whole')
class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files, in which a file is there as a whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; a former one of the same name stays until the new one is on the disk.

        Raises:
            OSError: If it cannot be written, with what is left and what to do.
        """
        write_atomic(obj, Path(filepath))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook for runs that may be killed at any time.

    A checkpoint is there as a whole or not at all, an outdated one goes only after the new one has come, and resuming
    takes the last whole one. In a training by iterations, a validation that the break cut off is made up for.

    Args:
        kwargs: ``CheckpointHook``'s.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        remote = '://' in str(kwargs.get('out_dir'))
        if kwargs.get('backend_args') is None and kwargs.get('file_client_args') is None and not remote:
            kwargs['backend_args'] = dict(backend='ifn_plugin.whole')
        super().__init__(*args, **kwargs)

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
        """Validate a resumed run, if a validation should have followed its checkpoint, which is written before."""
        super().before_train(runner)
        loop = runner.train_loop
        done = runner.message_hub.runtime_info.get('last_validation')
        if (loop.iter > 0 and isinstance(loop, IterBasedTrainLoop) and runner.val_loop is not None and done != loop.iter
                and loop.iter >= loop.val_begin
                and (loop.iter % loop.val_interval == 0 or loop.iter == loop.max_iters)):
            runner.logger.info(f'Making up for the validation after iteration {loop.iter}.')
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep the best checkpoint, unless nothing is trained, as in ``Runner.val`` alone."""
        if not hasattr(self, 'file_backend'):  # which before_train sets
            return
        # before a checkpoint is written again, so that it says so
        runner.message_hub.update_info('last_validation', runner.iter)
        super().after_val_epoch(runner, metrics)

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
                                         f'checkpoint is written. {_advice(runner)}')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        ids = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else ()
        if ids and len(ids) == self.max_keep_ckpts and ids[-1] != step:
            outdated = ids.popleft()  # mmengine would remove it first
        super()._save_checkpoint_with_step(runner, step, meta)
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


def _advice(runner: Runner) -> str:
    last = runner.message_hub.runtime_info.get('last_ckpt')
    if last and not Path(last).exists():  # mmengine names it before it saves
        last = find_latest_checkpoint(runner.work_dir)
    return ((f'The last good checkpoint is {last}.' if last else 'There is no checkpoint yet.')
            + ' Lower the learning rate, clip gradients (optim_wrapper.clip_grad) or train in float32, and look at '
            'these images.')


def list_files(img_path: str | Sequence[str] | None) -> list[str]:
    """The images of a sample, whose ``img_path`` may be one file, as with a loader of stacked dates."""
    return [img_path] if isinstance(img_path, str) else list(img_path or [])


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop as soon as the loss is not a number or infinite, and say where.

    Args:
        patience: With loss scaling (``AmpOptimWrapper`` in float16), the iterations in a row with an invalid loss that
            are left to the scaler, which skips the step and scales less.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, patience: int = 10) -> None:
        self.patience = patience
        self.invalid = 0

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Look at the losses.

        Raises:
            FloatingPointError: With the iteration, the levels, the images and the last checkpoint.
        """
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        # one look at a GPU, not one for each level
        finite = not losses or bool(torch.stack([value.isfinite().all() for value in losses.values()]).all())
        self.invalid = 0 if finite else self.invalid + 1
        wrapper = runner.optim_wrapper
        scaled = isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
        if self.invalid > (self.patience if scaled else 0):
            wrong = [f'{name}={float(value)}' for name, value in losses.items() if not value.isfinite()]
            # a batch may be anything that its collate function gives
            samples = data_batch.get('data_samples') or [] if isinstance(data_batch, dict) else []
            files = [' and '.join(list_files(getattr(sample, 'img_path', 'unnamed'))) for sample in samples]
            raise FloatingPointError(f'Iteration {runner.iter + 1}: {", ".join(wrong)}, from the pairs '
                                     f'{"; ".join(files) or "of a batch without names"}. {_advice(runner)}')
