"""Training loop with exact resumption."""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ifn_plugin.engine.samplers import ResumableBatchSampler, make_resumable, seed_everything
from ifn_plugin.registry import LOOPS


class _Batches(chain):

    def skip_iter(self, number: int) -> None:
        """Skip batches. onedl-mmengine calls this; mmengine calls ``next``."""
        for _ in range(number):
            next(self)


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` whose random numbers all derive from the seed and the iteration.

    A resumed run continues exactly as the uninterrupted one would have: with the same samples, crops and dropout,
    whatever the number of workers. It starts at once, whereas mmengine's loop first loads and discards every batch that
    has already been trained on.

    Args:
        runner: The runner.
        dataloader: The training data loader, or its settings. ``batch_sampler`` defaults to ``ResumableBatchSampler``,
            which lists the supported samplers.
        args, kwargs: Arguments of ``IterBasedTrainLoop``.

    Raises:
        ValueError: If the batch sampler or the sampler is not supported.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, make_resumable(dataloader), *args, **kwargs)
        if not isinstance(self.dataloader.batch_sampler, ResumableBatchSampler):
            raise ValueError('ResumableTrainLoop needs train_dataloader.batch_sampler.type='
                             'ifn_plugin.ResumableBatchSampler, but got '
                             f'{type(self.dataloader.batch_sampler).__name__}.')
        sampler = dataloader.get('sampler') if isinstance(dataloader, dict) else None
        self._has_own_order = isinstance(sampler, dict) and sampler.get('seed') is not None
        self._stop_workers()
        self.fast_forward_on_resume = False  # onedl-mmengine's way of resuming, which is not reproducible

    def _stop_workers(self) -> None:
        # a generator: workers start with the next batch, after hooks have prepared the loader and its data set
        self.dataloader_iterator = self._batches()
        self.dataloader._iterator = None  # where the loader keeps persistent workers, which mmengine's loop has started

    def _batches(self) -> Iterator[Any]:
        """Yield batches, starting at the current iteration."""
        batches: Any = self.dataloader.batch_sampler
        batches.start, batches.seed = self.iter, self._seed()
        if not self._has_own_order:
            batches.sampler.seed = batches.seed
        yield from self.dataloader

    def _seed(self) -> int:
        """Return the seed that all processes share. Resuming may have changed it."""
        seed: int = self.runner.seed
        return seed - get_rank() if self.runner._randomness_cfg.get('diff_rank_seed') else seed

    def run(self) -> torch.nn.Module:
        """Train."""
        # mmengine skips one batch per finished iteration: placeholders, so that nothing is loaded
        self.dataloader_iterator = _Batches(repeat(None, self.iter), self._batches())
        model: torch.nn.Module = super().run()
        self._stop_workers()
        return model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train for one iteration."""
        self.dataloader.batch_sampler.start = self.iter + 1
        seed_everything(self._seed(), self.iter, get_rank(), 1)
        super().run_iter(data_batch)
