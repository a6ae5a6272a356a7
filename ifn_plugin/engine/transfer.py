"""Asynchronous copies from the GPU to the host."""

from typing import Any

import torch
from torch import Tensor


class Transfer:
    """Asynchronous copy of a tensor to the host, queued behind the kernels before it while the host continues.

    Args:
        value: The tensor to copy.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value.to('cpu', non_blocking=value.is_cuda)  # from a GPU, into pinned memory
        self.copied = torch.cuda.Event() if value.is_cuda else None
        if self.copied is not None:
            self.copied.record(torch.cuda.current_stream(value.device))

    def is_there(self) -> bool:
        """Return whether the tensor was on the host already, so that nothing has to be copied."""
        return self.copied is None

    def get(self) -> Tensor:
        """Wait for the copy, and return it."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.value


def transfer(outputs: dict[str, Any]) -> Transfer:
    """Copy all outputs of a step, scalar tensors or numbers, to the host at once, as a tensor of (len(outputs), )."""
    device = next((value.device for value in outputs.values() if isinstance(value, Tensor)), None)
    return Transfer(torch.stack([
        torch.as_tensor(value, device=device).detach().reshape(()) for value in outputs.values()]))
