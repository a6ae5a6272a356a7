"""How a detector decides which pixels are changed."""

from typing import Any

from torch import nn


def decision_threshold(detector: Any) -> float | None:
    """Return the probability above which a detector's pixel is "changed".

    Args:
        detector: A detector of mmseg or open-cd. The last of several heads makes the change map, and of open-cd's heads
            for semantic change, the binary one.

    Returns:
        The threshold; ``None`` where the likelier of two classes decides.
    """
    head: Any = getattr(detector, 'decode_head', None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    head = getattr(head, 'binary_cd_head', head)
    return getattr(head, 'threshold', None) if getattr(head, 'out_channels', None) == 1 else None
