"""Export of a trained IFN to a file that runs without this package: ONNX, or a ``torch.export`` program."""

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.models.utils import resize
from torch import Tensor, nn

from ifn_plugin.datasets import LoadPair
from ifn_plugin.fileio import atomic_path
from ifn_plugin.models import IFN, IFNHead

SUFFIXES = ('.onnx', '.pt2')

# Heights and widths of the program are multiples of this: each pooling halves them exactly
MULTIPLE = 16


class ChangeNetwork(nn.Module):
    """IFN from raw images to probabilities, normalization included.

    Args:
        model: The detector of mmseg or open-cd, such as ``ChangeDetector.model``, on the CPU, in float32. It is copied,
            and not modified.
        loader: The transform that loads its images, such as ``ChangeDetector.loader``. Defaults to ``LoadPair()``.

    Raises:
        ValueError: If the detector is not an IFN alone, or its backbone does not take the channels that are loaded.
    """

    mean: Tensor
    std: Tensor
    low: Tensor | None
    factor: Tensor | None

    def __init__(self, model: nn.Module, loader: LoadPair | None = None) -> None:
        super().__init__()
        loader = loader or LoadPair()
        backbone, head, preprocessor = (getattr(model, name, None)
                                        for name in ('backbone', 'decode_head', 'data_preprocessor'))
        if not isinstance(backbone, IFN) or not isinstance(head, IFNHead):
            raise ValueError(f'The configuration has {type(backbone).__name__} and {type(head).__name__}, but only '
                             'ifn_plugin.IFN with ifn_plugin.IFNHead can be exported.')
        test_cfg: Any = getattr(model, 'test_cfg', None) or {}
        if hasattr(model, 'neck'):
            raise ValueError('The configuration has a neck, but only an IFN without one can be exported. Fix: train it '
                             'without model.neck.')
        if test_cfg.get('mode') == 'slide' or getattr(preprocessor, 'test_cfg', None):
            print_log('The exported network takes entire images as they are: sliding windows and padding in tests, '
                      'which this configuration has, are left out.', 'current', logging.WARNING)
        self.backbone, self.head = copy.deepcopy(backbone), copy.deepcopy(head)
        self.channels = loader.in_channels
        if self.channels != backbone.in_channels:
            raise ValueError(f'The configuration loads {self.channels} channels per date, but its backbone takes '
                             f'{backbone.in_channels}.')
        # The plugin's and open-cd's preprocessors hold the constants of both dates, in the network's channel order
        reverses = getattr(preprocessor, 'reverse_channels', getattr(preprocessor, 'channel_conversion', False))
        self.reverse = loader.bgr != reverses
        limits = getattr(loader, 'limits', None)
        for name, value in zip(('low', 'factor'), (None, None) if limits is None else
                               (limits[0], 255 / (limits[1] - limits[0]))):
            self.register_buffer(name, None if value is None else torch.tensor(value, dtype=torch.float32))
        for name in ('mean', 'std'):
            values = getattr(preprocessor, name).reshape(2, 1, 1, 1, -1).clone()
            self.register_buffer(name, values.flip(-1) if self.reverse else values)
        self.requires_grad_(False)

    def forward(self, date1: Tensor, date2: Tensor) -> Tensor:
        """Predict the probability of "changed".

        Args:
            date1: The earlier images, (N, H, W, 3), RGB, uint8; of other bands, (N, H, W, C), with values as in the
                files, float32 if ``LoadBands`` has a ``scale``; pixels that are NaN or infinite in either date are
                nodata.
            date2: The later images, likewise.

        Returns:
            Probability of "changed", (N, H, W), float32.
        """
        dates = [date.float() for date in (date1, date2)]
        if self.low is not None and self.factor is not None:
            finite = (torch.isfinite(dates[0]) & torch.isfinite(dates[1])).all(dim=-1, keepdim=True)
            dates = [torch.where(finite, ((date - self.low) * self.factor).clamp(0, 255), 0.) for date in dates]
        dates = [(date - mean) / std for date, mean, std in zip(dates, self.mean, self.std)]
        if self.reverse:
            dates = [date.flip(-1) for date in dates]
        pair = torch.cat([date.permute(0, 3, 1, 2) for date in dates], dim=1)
        logit = self.head(self.backbone(pair))[-1]
        if 0 not in self.head.in_index:  # the finest maps that it gets are smaller than the images
            logit = resize(logit, pair.shape[2:], mode='bilinear', align_corners=self.head.align_corners)
        return logit[:, 0].sigmoid()

    def example(self, n: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return random images of both dates, each (N, H, W, C)."""
        levels = torch.randint(0, 256, (2, n, height, width, self.channels), dtype=torch.uint8)
        if self.low is not None and self.factor is not None:
            levels = levels / self.factor + self.low
        date1, date2 = levels
        return date1, date2


def export(network: ChangeNetwork, path: Path | str) -> None:
    """Write a trained IFN to a file: ``.onnx``, or ``.pt2`` for ``torch.export.load``.

    Batch, height and width are dynamic: any in ONNX, multiples of 16 from 32 on in the program.

    Args:
        network: The trained network.
        path: File to write.

    Raises:
        ImportError: If onnxscript, which ONNX needs, is missing.
        ValueError: If the suffix is neither ``.onnx`` nor ``.pt2``.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path}: name a file that ends in {" or ".join(SUFFIXES)}.')
    network.eval()
    with atomic_path(path) as unfinished, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if path.suffix == '.onnx':
            _export_onnx(network, unfinished)
        else:
            n, height, width = (torch.export.Dim(name, min=low) for name, low in (('n', 0), ('h', 2), ('w', 2)))
            shapes = {0: n, 1: MULTIPLE * height, 2: MULTIPLE * width}
            program = torch.export.export(
                network, network.example(2, 64, 96), dynamic_shapes=dict(date1=shapes, date2=shapes))
            torch.export.save(program, unfinished)


def _export_onnx(network: ChangeNetwork, path: Path) -> None:
    try:
        import onnxscript  # noqa: F401  # torch's own error does not say how to install it
    except ImportError as error:
        raise ImportError(
            f'Exporting to ONNX needs onnxscript ({error}). Fix: pip install "ifn_plugin[export]".') from error
    shapes = dict.fromkeys((0, 1, 2), torch.export.Dim.DYNAMIC)
    torch.onnx.export(
        network, network.example(2, 67, 53), str(path), dynamo=True, external_data=False, verbose=False,
        input_names=['date1', 'date2'], output_names=['probability'],
        dynamic_shapes=dict(date1=shapes, date2=shapes))


def open_onnx(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Open an exported ``.onnx`` file with ONNX Runtime, on the CPU, with as many threads as torch.

    Returns:
        A function with the signature of :meth:`ChangeNetwork.forward`.

    Raises:
        ImportError: If ONNX Runtime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'Running an .onnx file needs onnxruntime ({error}). Fix: pip install "ifn_plugin[export]".') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return lambda date1, date2: torch.from_numpy(
        session.run(None, dict(date1=date1.numpy(), date2=date2.numpy()))[0])


def compare(network: ChangeNetwork, path: Path,
            shapes: Sequence[tuple[int, int, int]]) -> dict[tuple[int, int, int], float]:
    """Compare an exported file with the network on random images.

    Args:
        network: The network that was exported.
        path: The exported file.
        shapes: Batch sizes, heights and widths to try.

    Returns:
        The maximum absolute difference of the probabilities for each shape.

    Raises:
        ImportError: If ONNX Runtime is missing.
        ValueError: If the network's probabilities are not finite.
    """
    network.eval()
    run = open_onnx(path) if path.suffix == '.onnx' else torch.export.load(path).module()
    differences = {}
    with torch.no_grad():
        for shape in shapes:
            pair = network.example(*shape)
            expected = network(*pair)
            if not expected.isfinite().all():
                raise ValueError('The network gives probabilities that are not finite. Fix: use another checkpoint.')
            differences[shape] = float((run(*pair) - expected).abs().max())
    return differences
