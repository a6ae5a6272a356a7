"""Measurements of one configuration in one variant."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ifn_plugin.analysis.benchmark.cases import ONNX, SWITCHES, Case
from ifn_plugin.analysis.benchmark.resources import (
    drop_from_page_cache,
    free_memory,
    peak_memory,
    reset_peak_memory,
    seconds,
)
from ifn_plugin.datasets import find_loaders
from ifn_plugin.datasets.settings import list_dataset_settings
from ifn_plugin.engine import accelerate
from ifn_plugin.engine.cuda import can_fuse, copy_without_waiting, pin_batches, set_fused
from ifn_plugin.engine.memory import release_memory
from ifn_plugin.engine.samplers import make_resumable
from ifn_plugin.utils.configurations import detector_settings, is_type, registry_of


class Subject:
    """Configuration in one variant, measured in the process of a row.

    Args:
        config: Configuration file.
        variant: Precision and switches, such as ``float32+compile``, or ``onnxruntime``.
        data_root: Folder of the data set; ``None`` for the one in the configuration.
    """

    def __init__(self, config: str | Path, variant: str, data_root: str | None) -> None:
        self.cfg = Config.fromfile(config)
        # mmengine's runner sets it too
        torch.backends.cudnn.benchmark = bool((self.cfg.get('env_cfg') or {}).get('cudnn_benchmark'))
        init_default_scope(self.cfg.get('default_scope', 'mmseg'))
        self.variant, self.data_root = variant, data_root
        self.channels = find_loaders(self.cfg)[0].in_channels
        self.step: Callable[[], float] | None = None

    def _build(self) -> Any:
        """Build the network with random weights from a fixed seed."""
        torch.manual_seed(0)
        return MODELS.build(detector_settings(self.cfg))

    def build_model(self) -> nn.Module:
        """Build the network with random weights from a fixed seed, and accelerate it as the variant specifies."""
        model: nn.Module = self._build()
        dtype, *switches = self.variant.split('+')
        model.to(get_device())
        chosen = {switch: switch in switches for switch in SWITCHES}
        if chosen['pin_memory'] and get_device() == 'cuda':
            copy_without_waiting(model)
        precision = accelerate(
            model, channels_last=chosen['channels_last'], dtype=dtype, window_batch=1, tf32=chosen['tf32'],
            keep_memory=chosen['keep_memory'],
            compile=dict(mode='reduce-overhead') if chosen['cuda_graphs'] else chosen['compile'])
        if dtype not in ('auto', str(precision).rpartition('.')[2]):
            raise ValueError(f'{get_device()} does not compute in {dtype}')
        return model

    def count(self, size: int) -> dict[str, int]:
        """Count parameters, and multiply-accumulate operations for one pair of square images.

        Args:
            size: Side of the images, in pixels.

        Returns:
            ``parameters``, ``trainable`` parameters and ``macs``.
        """
        model: Any = self._build().eval()
        batch = model.data_preprocessor(_batch(size, 1, self.channels), True)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**batch, mode='predict')
        parameters = list(model.parameters())
        result = dict(
            parameters=sum(p.numel() for p in parameters),
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            macs=counter.get_total_flops() // 2)
        del model, batch, parameters
        free_memory()
        return result

    def start(self, case: Case) -> None:
        """Prepare a case and warm it up, including compilation."""
        self.step = None
        free_memory()
        make = dict(train=self._training, inference=self._inference, end_to_end=self._end_to_end, data=self._data,
                    cold_data=self._cold_data)
        try:
            self.step = make[case.task](case)
            if case.task not in ('end_to_end', 'data'):  # these two are already warm
                for _ in range(2):
                    self.step()
        except Exception:
            self.stop()  # a failed case must not keep memory from the others
            raise
        reset_peak_memory()

    def run(self) -> float:
        """Run one round, and return its seconds per pair or sample."""
        assert self.step is not None
        return self.step()

    def stop(self) -> int | None:
        """Free the memory of the case, and return the peak since its start in bytes; ``None`` if it is unknown."""
        # torch does not know how much GPU memory ONNX Runtime takes
        peak = None if self.variant == ONNX and torch.cuda.is_available() else peak_memory()
        self.step = None
        torch.compiler.reset()
        free_memory()
        return peak

    def _trainer(self) -> Callable[[Any], Any]:
        """Return a function that runs a training step on a batch."""
        if self.variant == ONNX:
            raise ValueError('ONNX Runtime does not train')
        model: Any = self.build_model().train()
        optim_wrapper = dict(self.cfg.optim_wrapper)
        # the variant's precision replaces the configuration's
        for setting in ('dtype', 'loss_scale', 'use_fsdp'):
            optim_wrapper.pop(setting, None)
        half = self.variant.startswith('float16')
        if half or is_type(optim_wrapper.get('type'), registry_of(self.cfg, OPTIM_WRAPPERS), AmpOptimWrapper):
            optim_wrapper['type'] = 'AmpOptimWrapper' if half else 'OptimWrapper'
        wrapper = build_optim_wrapper(model, optim_wrapper)
        if 'fused' in self.variant.split('+') and can_fuse([wrapper.optimizer]):
            set_fused(wrapper.optimizer)
        return lambda batch: model.train_step(batch, wrapper)

    def _training(self, case: Case) -> Callable[[], float]:
        train = self._trainer()
        batch = _batch(case.size, case.batch, self.channels)
        return lambda: seconds(lambda: train(batch)) / case.batch

    def feed(self, case: Case) -> tuple[Callable[[Any], Any], Iterator[Any], int]:
        """Prepare training with its data pipeline.

        Returns:
            A function that runs a training step on a batch, an endless iterator of batches, and the number of batches
            that the workers load ahead.
        """
        train = self._trainer()
        self._set_data_root()
        set_multi_processing(**(self.cfg.get('env_cfg') or {}).get('mp_cfg', {}))  # as a runner does
        settings: Any = dict(self.cfg.train_dataloader, batch_size=case.batch)
        if settings.get('batch_sampler'):
            settings = make_resumable(settings)  # as the training loop does
        loader = Runner.build_dataloader(settings, seed=0)
        if 'pin_memory' in self.variant.split('+') and get_device() == 'cuda':
            pin_batches(loader)
        return train, _endless(loader), loader.num_workers * (loader.prefetch_factor or 0)

    def _end_to_end(self, case: Case) -> Callable[[], float]:
        train, batches, waiting = self.feed(case)
        for _ in range(1 + waiting):
            train(next(batches))
        # about three seconds a round
        some = max(1, self.cfg.train_dataloader.num_workers)
        count = max(1, round(3 * some / seconds(lambda: [train(next(batches)) for _ in range(some)])))

        def step() -> float:
            for _ in range(waiting):  # batches that the workers loaded while other rows had their turn
                train(next(batches))
            return seconds(lambda: [train(next(batches)) for _ in range(count)]) / (count * case.batch)

        return step

    def _inference(self, case: Case) -> Callable[[], float]:
        if self.variant == ONNX:
            return self._onnx_inference(case)
        model: Any = self.build_model().eval()
        # prepared as in training, since open-cd's preprocessor takes one pair only in testing
        batch = model.data_preprocessor(_batch(case.size, case.batch, self.channels), True)

        def step() -> float:
            with torch.no_grad():
                return seconds(lambda: model(**batch, mode='predict')) / case.batch

        return step

    def _onnx_inference(self, case: Case) -> Callable[[], float]:
        from ifn_plugin.apis.export import ChangeNetwork, export, open_onnx
        with TemporaryDirectory() as folder:
            path = Path(folder) / 'model.onnx'
            network = ChangeNetwork(self._build(), find_loaders(self.cfg)[0])
            export(network, path)
            run = open_onnx(path)
        date1, date2 = network.example(case.batch, case.size, case.size)
        release_memory()  # exporting leaves reference cycles
        return lambda: seconds(lambda: run(date1, date2)) / case.batch

    def _set_data_root(self) -> None:
        if self.data_root:
            dataset, *others = list_dataset_settings(self.cfg, 'train')
            if others:
                raise ValueError('--data-root cannot replace the several data sets that this configuration trains on. '
                                 'Fix: set each data_root in a configuration file.')
            dataset.data_root = self.data_root

    def _dataset(self) -> Any:
        import cv2
        cv2.setNumThreads(0)  # as in a worker
        self._set_data_root()
        return DATASETS.build(self.cfg.train_dataloader.dataset)

    def _data(self, case: Case) -> Callable[[], float]:
        dataset = self._dataset()
        for index in range(len(dataset)):
            dataset[index]
        # about a second a round
        count = max(1, round(1 / seconds(lambda: dataset[0])))

        def step() -> float:
            indices = random.choices(range(len(dataset)), k=count)
            return seconds(lambda: [dataset[index] for index in indices]) / count

        return step

    def _cold_data(self, case: Case) -> Callable[[], float]:
        dataset = self._dataset()
        roots = {Path(settings.data_root) for settings in list_dataset_settings(self.cfg, 'train')}

        def step() -> float:
            for root in roots:
                drop_from_page_cache(root)
            return seconds(lambda: [dataset[index] for index in range(len(dataset))]) / len(dataset)

        return step


def _endless(loader: DataLoader) -> Iterator[Any]:
    """Yield batches endlessly, also from finite samplers."""
    batch = None
    while True:
        for batch in loader:
            yield batch
        if batch is None:
            raise ValueError('the training data has fewer pairs than a batch')


def _batch(size: int, batch: int, channels: int = 3) -> dict[str, Any]:
    from mmseg.structures import SegDataSample
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 2 * channels, size, size), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(batch, 1, size, size, generator=generator) > 0.9).long()
    meta = dict(ori_shape=(size, size), img_shape=(size, size))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=meta) for label in labels]
    return dict(inputs=list(images), data_samples=samples)
