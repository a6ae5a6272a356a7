"""What only a CUDA GPU offers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader


def use_tf32() -> None:
    """Let the entire process multiply float32 in TF32: 10 bits of the mantissa, sums in float32."""
    torch.set_float32_matmul_precision('high')
    torch.backends.cudnn.allow_tf32 = True


def uses_cuda_graphs(options: dict[str, Any]) -> bool:
    """Whether ``torch.compile`` records CUDA graphs with these arguments."""
    return (options.get('mode') in ('reduce-overhead', 'max-autotune')
            or bool((options.get('options') or {}).get('triton.cudagraphs')))


def can_fuse(optimizers: Sequence[Optimizer], device: str = 'cuda') -> bool:
    """Whether Adam and AdamW can take their steps in one kernel, and no setting says otherwise.

    Args:
        optimizers: All of a run.
        device: Where every parameter has to be.
    """
    return all(
        isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) and group.get('fused') is None
        and group.get('foreach') is None and not group.get('differentiable')
        and all(parameter.device.type == device and parameter.is_floating_point() for parameter in group['params'])
        for optimizer in optimizers for group in optimizer.param_groups)


def set_fused(optimizer: Optimizer) -> None:
    """Let an optimizer for which :func:`can_fuse` holds take its steps in one kernel from now on."""
    for group in optimizer.param_groups:
        group['fused'] = True
    for parameter, state in optimizer.state.items():
        # a fused kernel counts on the device; a resumed count may be on the CPU
        state['step'] = torch.as_tensor(state['step'], dtype=torch.float32, device=parameter.device)


class PinnableBatch(dict):
    """Batch of which a data loader pins the data samples, too: torch pins what is in dicts and lists only.

    The GPU would wait for a label to be copied from pageable memory.
    """

    def pin_memory(self) -> dict[str, Any]:
        """Copy all tensors into pinned memory; torch's data loader calls it."""
        return {name: _pin(value) for name, value in self.items()}


def _pin(data: Any) -> Any:
    if isinstance(data, BaseDataElement):
        pinned = data.new()
        pinned.set_data(_pin(dict(data.items())))
        return pinned
    if isinstance(data, Tensor):
        return data.pin_memory()
    return apply_to(data, lambda part: isinstance(part, (Tensor, BaseDataElement)), _pin)


class PinnableCollate:
    """Function of a data loader that joins samples, for batches to be pinned.

    Args:
        collate: The loader's own.
    """

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list) -> Any:
        """Join samples to a batch."""
        batch = self.collate(samples)
        return PinnableBatch(batch) if type(batch) is dict else batch


def pin_batches(loader: Any) -> None:
    """Let a data loader that has not begun put its batches where the GPU copies them from directly."""
    if isinstance(loader, DataLoader):
        loader.pin_memory = True
        if not isinstance(loader.collate_fn, PinnableCollate):
            loader.collate_fn = PinnableCollate(loader.collate_fn)


def copy_without_waiting(model: nn.Module) -> None:
    """Let a detector's preprocessor queue its copies to the GPU behind the kernels, instead of waiting for these."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    if isinstance(preprocessor, BaseDataPreprocessor):
        # mmengine's argument `non_blocking`, which mmseg's preprocessors do not pass on
        preprocessor._non_blocking = True
