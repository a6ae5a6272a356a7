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
        """Drop batches, as onedl-mmengine does; mmengine calls ``next``."""
        for _ in range(number):
            next(self)


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):
    """mmengine's loop, with all that is random derived from the seed and the iteration.

    A resumed run goes on exactly as the uninterrupted one would have: with the same samples, crops and dropout,
    whatever the number of workers. It starts at once, while mmengine's loop first loads and drops every batch that has
    been trained.

    Args:
        runner: The runner.
        dataloader: The training data, or its settings. Where no ``batch_sampler`` is named, it is a
            ``ResumableBatchSampler``; see there for the samplers that it takes.
        args, kwargs: ``IterBasedTrainLoop``'s.

    Raises:
        ValueError: For another batch sampler or sampler.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, make_resumable(dataloader), *args, **kwargs)
        if not isinstance(self.dataloader.batch_sampler, ResumableBatchSampler):
            raise ValueError('ResumableTrainLoop needs train_dataloader.batch_sampler.type='
                             'ifn_plugin.ResumableBatchSampler, but it is '
                             f'{type(self.dataloader.batch_sampler).__name__}.')
        sampler = dataloader.get('sampler') if isinstance(dataloader, dict) else None
        self._has_own_order = isinstance(sampler, dict) and sampler.get('seed') is not None
        # workers start with the first batch, after hooks have prepared the data set
        self.dataloader_iterator = self._batches()
        self.fast_forward_on_resume = False  # onedl-mmengine's, which would leave the samples to chance

    def _batches(self) -> Iterator[Any]:
        """Load batches from the current iteration on."""
        batches: Any = self.dataloader.batch_sampler
        batches.start, batches.seed = self.iter, self._seed()
        if not self._has_own_order:
            batches.sampler.seed = batches.seed
        yield from self.dataloader

    def _seed(self) -> int:
        """One seed for all processes, which resuming may have set."""
        seed: int = self.runner.seed
        return seed - get_rank() if self.runner._randomness_cfg.get('diff_rank_seed') else seed

    def run(self) -> torch.nn.Module:
        """Train."""
        # mmengine drops as many batches as there were iterations: none of these is loaded
        self.dataloader_iterator = _Batches(repeat(None, self.iter), self._batches())
        model: torch.nn.Module = super().run()
        self.dataloader_iterator = self._batches()  # lets the workers go
        return model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train for one iteration."""
        self.dataloader.batch_sampler.start = self.iter + 1
        seed_everything(self._seed(), self.iter, get_rank(), 1)
        super().run_iter(data_batch)
