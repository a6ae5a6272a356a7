"""What a GPU computes, on the host without waiting for the GPU's queue to empty."""

from typing import Any

import torch
from torch import Tensor


class Transfer:
    """A tensor on its way to the host: the copy runs behind the kernels before it, while the host goes on.

    Args:
        value: The tensor.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value.to('cpu', non_blocking=value.is_cuda)  # from a GPU, into pinned memory
        self.copied = torch.cuda.Event() if value.is_cuda else None
        if self.copied is not None:
            self.copied.record(torch.cuda.current_stream(value.device))

    def is_there(self) -> bool:
        """Whether it was on the host from the start."""
        return self.copied is None

    def get(self) -> Tensor:
        """The tensor, waited for."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.value


def transfer(outputs: dict[str, Any]) -> Transfer:
    """All values of a step in one copy: (len(outputs), )."""
    return Transfer(torch.stack([torch.as_tensor(value).detach().reshape(()) for value in outputs.values()]))
