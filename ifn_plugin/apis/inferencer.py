"""Inference with a trained change detector, for images in memory or on disk."""

import logging
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmseg.structures import SegDataSample

from ifn_plugin.apis.pairs import list_unmatched
from ifn_plugin.datasets import LoadBands, find_loaders
from ifn_plugin.datasets.levircd import list_images
from ifn_plugin.datasets.settings import list_dataset_settings
from ifn_plugin.engine import accelerate
from ifn_plugin.engine.hooks.evaluation_hook import find_threshold
from ifn_plugin.evaluation import change_probability
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.models.conversion import load_weights
from ifn_plugin.models.decision import decision_threshold
from ifn_plugin.utils import abbreviate
from ifn_plugin.utils.configurations import detector_settings, read_config, type_name

Image = np.ndarray | str | Path
# mmengine's default scope is one for all threads
SCOPE = RLock()


@dataclass(frozen=True)
class ChangeMap:
    """Result of a detector for a pair.

    Attributes:
        probability: Probability of "changed", (H, W), float32.
        changed: Whether the probability is above the threshold, (H, W), bool.
    """

    probability: np.ndarray
    changed: np.ndarray


class ChangeDetector:
    """Trained change detector: IFN, or any other that a configuration of open-cd or mmseg builds.

    Semantic change detectors give their binary change map, without the classes.

    Args:
        config: The configuration, for open-cd or mmseg: a file, the name of one of the plugin's own, or a ``Config``.
        checkpoint: Weights, as for :func:`ifn_plugin.fileio.checkpoint.load_checkpoint_file`. Weights of IFN from other
            projects are converted, see :func:`ifn_plugin.models.conversion.convert_state_dict`.
        device: Device to compute on, for instance ``'cpu'`` or ``'cuda:1'``. Defaults to a GPU if there is one.
        threshold: Probability above which a pixel is "changed", or ``'val'`` for the one that validation chose, which
            is in the checkpoint. Defaults to that of the configuration.
        batch_size: Number of pairs of the same size in one forward pass.
        acceleration: Arguments of :func:`ifn_plugin.engine.acceleration.accelerate`. Defaults to channels-last maps in
            float32, uncompiled.

    Raises:
        FileNotFoundError: If the configuration or the checkpoint is missing.
        ValueError: If the threshold is not from 0 to below 1, or ``'val'`` and the checkpoint has none; if
            ``batch_size`` is not positive, the checkpoint cannot be read safely or does not fit the configuration (the
            keys are named), or torch cannot compute on the device.
    """

    def __init__(self,
                 config: str | Path | Config,
                 checkpoint: str | Path,
                 device: str | None = None,
                 threshold: float | Literal['val'] | None = None,
                 batch_size: int = 4,
                 acceleration: dict[str, Any] | None = None) -> None:
        cfg = config if isinstance(config, Config) else read_config(config)
        if threshold is not None and threshold != 'val' and not 0 <= threshold < 1:
            raise ValueError(f"threshold={threshold}: use a probability from 0 to below 1, or 'val'.")
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size}: use at least 1.')
        self.device = find_device(device)
        self.scope = cfg.get('default_scope') or 'mmseg'
        self.batch_size = batch_size
        self.cfg, self.config, self.checkpoint = cfg, cfg.filename or '', str(checkpoint)
        # the weights that are replaced draw no random numbers from the caller's
        with SCOPE, DefaultScope.overwrite_default_scope(self.scope), torch.random.fork_rng(devices=[]):
            model = revert_sync_batchnorm(MODELS.build(detector_settings(cfg)))
        loaded = load_checkpoint_file(checkpoint)
        load_weights(str(checkpoint), loaded, model, spread=False)
        self.model = model.to(self.device).eval()
        if hasattr(self.model, 'postprocess_pred_and_label'):  # open-cd's detectors of semantic change
            self.model.postprocess_pred_and_label = None  # it needs the classes' labels
        if threshold == 'val':
            threshold = find_threshold(loaded)
            if threshold is None:
                raise ValueError(f'{checkpoint} has no threshold from validation. Fix: name one, or take a checkpoint, '
                                 'such as the best one, of a training with val_evaluator.choose_threshold=True.')
        elif threshold is None:
            threshold = decision_threshold(self.model)
        self.threshold = 0.5 if threshold is None else float(threshold)
        settings: dict[str, Any] = dict(
            dtype='float32', compile=False, keep_memory=False, tf32=False) | (acceleration or {})
        self.dtype = accelerate(self.model, **settings)
        self.compiled = bool(settings['compile'])
        self.loader = find_loaders(cfg)[0]
        steps = [type_name(step['type']) for settings in list_dataset_settings(cfg, 'test')[:1]
                 for step in settings.get('pipeline') or []]
        others = [step for step in steps if not re.search('Load|Pack|Concat', step)]
        if others:
            print_log(f'A test with this configuration passes its images through {", ".join(others)}, too. Inference '
                      'skips these transforms, so the change maps may differ.', 'current', logging.WARNING)

    def predict(self, date1: Image, date2: Image) -> ChangeMap:
        """Predict the changes between two images.

        Args:
            date1: The earlier image: a file, or an array (H, W, 3), RGB, uint8; for a detector of other bands, those
                that ``LoadBands`` in its configuration names, (H, W, C), with values as in the files; pixels of
                which a band is NaN or infinite, or all are masked, are nodata.
            date2: The later image, of the same size.

        Returns:
            The change map.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If an image cannot be read, is not what the configuration loads, or the sizes differ.
        """
        return next(self.predict_all([(date1, date2)]))

    def predict_all(self, pairs: Iterable[tuple[Image, Image]]) -> Iterator[ChangeMap]:
        """Predict the changes in any number of pairs, while the next ones are read.

        Args:
            pairs: Pairs of images, as for :meth:`predict`. Consecutive pairs of the same size form batches.

        Yields:
            The change map of each pair, in order.

        Raises:
            FileNotFoundError: As in :meth:`predict`.
            ValueError: As in :meth:`predict`.
        """
        batch: list[np.ndarray] = []
        full = None
        for pair in read_ahead(self._read, map(_keep, pairs), self.batch_size):
            if batch and (len(batch) == self.batch_size or pair.shape != batch[0].shape):
                full = batch[0].shape if len(batch) == self.batch_size else full
                yield from self._detect(batch)
                batch = []
            batch.append(pair)
        if batch:
            yield from self._detect(batch, fill_up=batch[0].shape == full)

    def probabilities(self, pairs: np.ndarray, fill_up: bool = False) -> np.ndarray:
        """Predict the probabilities of "changed" for pairs of the same size, in one forward pass.

        Args:
            pairs: (N, 2, H, W, 3), RGB, uint8: both dates of each pair; for a detector of other bands, (N, 2, H, W, C)
                in grey levels from 0 to 255, float32.
            fill_up: If the network is compiled, repeat the last pair to fill the batch up to ``batch_size``: after full
                batches, this is faster than compiling for a smaller one.

        Returns:
            (N, H, W), float32.

        Raises:
            ValueError: If they are not finite, as with weights that are not; the checkpoint is named.
        """
        number = len(pairs)
        if fill_up and self.compiled:
            pairs = pairs[np.minimum(range(self.batch_size), number - 1)]
        # the pipelines give BGR, with the channels of both dates in one image
        pairs = pairs[..., ::-1] if self.loader.bgr else pairs
        stacked = np.ascontiguousarray(pairs.transpose(0, 1, 4, 2, 3)).reshape(len(pairs), -1, *pairs.shape[2:4])
        shape = pairs.shape[2:4]
        samples = [SegDataSample(metainfo=dict(ori_shape=shape, img_shape=shape)) for _ in pairs]
        with torch.inference_mode(), SCOPE, DefaultScope.overwrite_default_scope(self.scope):
            # one pair at a time, as open-cd's preprocessor requires
            ready = [self.model.data_preprocessor(dict(inputs=[pair], data_samples=[sample]))
                     for pair, sample in zip(torch.from_numpy(stacked), samples)]
            outputs = self.model(torch.cat([data['inputs'] for data in ready]),
                                 [sample for data in ready for sample in data['data_samples']], mode='predict')
        probability = torch.stack([change_probability(output.seg_logits.data) for output in outputs[:number]])
        if not probability.isfinite().all():
            raise ValueError(f'{self.checkpoint}: the detector gives probabilities that are not finite. Fix: use '
                             'another checkpoint or, if its weights are finite, compute in float32.')
        return np.asarray(probability.cpu())

    def _read(self, pair: tuple[Image, Image]) -> np.ndarray:
        """Load both dates of a pair, (2, H, W, C), as ``probabilities`` takes them."""
        if all(isinstance(image, (str, Path)) for image in pair):
            dates = self.loader.transform(dict(img_path=[str(image) for image in pair]))['img']
        else:
            dates = [self.loader.from_array(image, name)
                     for name, image in zip(('date 1', 'date 2'), pair)]
            if dates[0].shape != dates[1].shape:
                raise ValueError(f'The dates differ in size: {dates[0].shape} and {dates[1].shape}. Fix: resample both '
                                 'to the same grid.')
            if isinstance(self.loader, LoadBands):
                arrays: Any = pair
                valid1, valid2 = (~np.ma.getmaskarray(array).all(axis=2)
                                  & np.isfinite(np.ma.getdata(array)).all(axis=2) for array in arrays)
                for date in dates:
                    date[~(valid1 & valid2)] = 0  # nodata, as in images from files
        stacked = np.stack(dates)
        return stacked[..., ::-1] if self.loader.bgr else stacked

    def _detect(self, batch: list[np.ndarray], fill_up: bool = False) -> Iterator[ChangeMap]:
        for probability in self.probabilities(np.stack(batch), fill_up):
            yield ChangeMap(probability, probability > self.threshold)


def _keep(pair: tuple[Image, Image]) -> list[Image]:
    """Copy the arrays of a pair, which the caller may fill again while they wait."""
    if isinstance(pair, (str, Path)) or len(pair) != 2:
        given = pair if isinstance(pair, (str, Path)) else f'{len(pair)} items'
        raise ValueError(f'predict_all needs pairs, but got {given}. Fix: predict_all([(date1, date2), ...]).')
    return [image.copy() if isinstance(image, np.ndarray) else image for image in pair]


def find_pairs(folder1: str | Path, folder2: str | Path) -> dict[str, tuple[Path, Path]]:
    """Pair the images of two folders by name; the suffixes may differ.

    Returns:
        Both files of each pair, by their path relative to the folders without suffix, sorted.

    Raises:
        FileNotFoundError: If a folder is missing, both are empty, or an image has no counterpart; they are named.
    """
    folders = Path(folder1), Path(folder2)
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f'{folder}: no such folder.')
    date1, date2 = (list_images(folder) for folder in folders)
    if not date1 and not date2:
        raise FileNotFoundError(f'{folders[0]} and {folders[1]} hold no images.')
    lacking = list_unmatched(folders, date1, date2)
    if lacking:
        raise FileNotFoundError(f'Images without a counterpart. Missing: {abbreviate(lacking, 5)}. Fix: add these '
                                'files, or remove their counterparts.')
    return {name: (date1[name], date2[name]) for name in sorted(date1)}


def find_device(name: str | None) -> torch.device:
    """Return the device of a name, or a GPU if there is one.

    Raises:
        ValueError: If torch cannot compute there.
    """
    try:
        device = torch.device(name or get_device())
        torch.empty(0, device=device)
    except Exception as error:  # AssertionError, RuntimeError and others, depending on torch's build
        reason = str(error).partition('\n')[0].rstrip('.')
        raise ValueError(f'device={name}: torch cannot compute there ({reason}). Fix: use cpu, or leave it out to use '
                         'a GPU if there is one.') from error
    return device


def read_ahead(read: Any, items: Iterable[Any], number: int) -> Iterator[Any]:
    """Read items in a thread, up to ``number`` of them ahead of their use."""
    with ThreadPoolExecutor(1) as pool:
        waiting = []
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > number:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
