"""Batches whose order and random numbers depend only on the seed and the position in the run."""

import random
from collections.abc import Iterator, Sequence, Sized
from itertools import chain, count, islice
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, get_worker_info

from ifn_plugin.datasets.transforms.randomness import reseed_generators
from ifn_plugin.registry import DATA_SAMPLERS


def seed_everything(*numbers: Any) -> None:
    """Seed the generators of Python, numpy, torch and OpenCV from numbers or sequences of numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    cv2.setRNGSeed(seed % 2**31)


class SeededBatch(Sequence[int]):
    """Indices of the samples in a batch, each of which seeds the generators of the process that reads it.

    These are the global generators and those of the data set's transforms.
    """

    def __init__(self, indices: Sequence[int], places: Sequence[int], seed: int, dataset: Any = None) -> None:
        self.indices, self.places, self.seed, self.dataset = indices, places, seed, dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.indices, self.places, self.seed)  # a worker has its own data set

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: Any) -> Any:
        seed_everything(self.seed, self.places[number])
        worker: Any = get_worker_info()
        reseed_generators(worker.dataset if worker else self.dataset)
        return self.indices[number]


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(BatchSampler):
    """Endless batch sampler that can start anywhere in the run without loading the batches before.

    The order is that of the sampler, epoch after epoch.

    Args:
        sampler: mmengine's ``InfiniteSampler`` or ``DefaultSampler``, or torch's ``SequentialSampler``.
        batch_size: Number of samples in a batch.
        drop_last: Whether to drop the last, smaller batch of each epoch of a finite sampler.

    Attributes:
        start: Number of the first batch of the next iterator. ``ResumableTrainLoop`` keeps it at the next iteration.
        seed: Seed of the random numbers of samples. ``ResumableTrainLoop`` sets it to that of the run.

    Raises:
        ValueError: If the sampler is not supported, or there is no batch.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False) -> None:
        # other samplers may be endless, or continue where their last iterator stopped
        if type(sampler) is not InfiniteSampler and not isinstance(sampler, (DefaultSampler, SequentialSampler)):
            raise ValueError('The order of train_dataloader.sampler.type='
                             f'{type(sampler).__name__} cannot be resumed where a run was interrupted. Fix: '
                             'InfiniteSampler or DefaultSampler, or train_cfg.type=IterBasedTrainLoop with '
                             'train_dataloader.batch_sampler=None.')
        super().__init__(sampler, batch_size, drop_last)
        check_length(SimpleNamespace(batch_sampler=self), 'train_dataloader', endless=True)
        self.start = 0
        self.seed: int = getattr(sampler, 'seed', 0)

    def __iter__(self) -> Iterator[Any]:
        """Yield batches of indices, each a ``SeededBatch``, from ``start`` on."""
        places = count(*get_dist_info())
        epochs = (BatchSampler(self._order(epoch, places), self.batch_size, self.drop_last) for epoch in count())
        dataset = getattr(self.sampler, 'dataset', getattr(self.sampler, 'data_source', None))
        for batch in islice(chain.from_iterable(epochs), self.start, None):
            indices, numbers = zip(*batch)
            yield SeededBatch(indices, numbers, self.seed, dataset)

    def _order(self, epoch: int, places: Iterator[int]) -> Any:
        sampler: Any = self.sampler
        if isinstance(sampler, InfiniteSampler):
            # a copy, since the sampler's own iterator continues where the last one stopped
            sampler = InfiniteSampler(sampler.dataset, sampler.shuffle, sampler.seed)
        elif isinstance(sampler, DefaultSampler):
            sampler.set_epoch(epoch)
        return zip(sampler, places)


def make_resumable(loader: DataLoader | dict) -> DataLoader | dict:
    """Give a data loader, or its settings, a ``ResumableBatchSampler`` in place of torch's batch sampler.

    Raises:
        ValueError: If the sampler is not supported.
    """
    if isinstance(loader, dict):
        loader = loader.copy()
        batches = loader.get('batch_sampler') or dict(type=ResumableBatchSampler)
        if isinstance(batches, dict):
            # DataLoader does not accept it together with a batch sampler
            batches = dict(batches, drop_last=True) if loader.pop('drop_last', False) else batches
            loader.setdefault('batch_size', 1)
        loader['batch_sampler'] = batches
    elif type(loader.batch_sampler) is BatchSampler:
        kept = ('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn', 'multiprocessing_context',
                'generator', 'prefetch_factor', 'persistent_workers', 'pin_memory_device')
        batches = ResumableBatchSampler(loader.sampler, loader.batch_sampler.batch_size, loader.drop_last)
        return DataLoader(loader.dataset, batch_sampler=batches, **{name: getattr(loader, name) for name in kept})
    return loader


def check_length(loader: Any, name: str, endless: bool = False) -> None:
    """Reject a data loader that has no batches, or never ends where it has to.

    Args:
        loader: The data loader.
        name: Name of its settings.
        endless: Whether it may be endless, as in iteration-based training.

    Raises:
        ValueError: If it has no batches or never ends; the message names the settings to change.
    """
    batches = getattr(loader, 'batch_sampler', None)
    samplers = batches, getattr(batches, 'sampler', None), getattr(loader, 'sampler', None)
    kinds = [type(sampler).__name__ for sampler in samplers if isinstance(sampler, _ENDLESS)]
    if kinds and not endless:
        raise ValueError(f'Iterating over {name} never ends, because of its {" and ".join(dict.fromkeys(kinds))}. Fix: '
                         f'{name}.sampler.type=DefaultSampler and {name}.batch_sampler=None'
                         + (', or iteration-based training, train_cfg.type=ifn_plugin.ResumableTrainLoop.'
                            if name.startswith('train') else '.'))
    if isinstance(batches, BatchSampler) and isinstance(batches.sampler, Sized) and not len(batches):
        raise ValueError(f'{name} gives no batch: {len(batches.sampler)} samples, batch_size={batches.batch_size}, '
                         f'drop_last={batches.drop_last}. Fix: check its dataset, or take a smaller batch_size.')

_ENDLESS = ResumableBatchSampler, InfiniteSampler
