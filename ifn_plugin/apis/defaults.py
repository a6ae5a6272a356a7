"""Batch size and acceleration that suit a device and the work to come."""

from typing import Any

import torch

# Memory of a pair of 1024×1024 pixels on a GPU, in bytes, with room to spare; batches larger than 8 gain nothing there
PAIR = 3 * 2**30
LARGEST = 8
# Pairs of 1024×1024 pixels from which on compiled inference saves more time than the compiler takes. On a CPU: 90 s
# against 1.95 s for each 512×512 (3.58 s, compiled 1.63 s; one thread of an AMD EPYC, bfloat16). On a GPU: an estimate.
WORTH_COMPILING = dict(cpu=12, cuda=2000)


def choose_batch_size(device: torch.device, pixels: int) -> int:
    """Choose the number of pairs in a batch.

    Args:
        device: The device.
        pixels: Number of pixels of a pair.

    Returns:
        On a GPU, as many as fit into half of its free memory, up to 8 of 1024×1024 or as many more as they are
        smaller, at most 64. On other devices 1, where larger batches take more memory and no less time.
    """
    if device.type != 'cuda':
        return 1
    pairs = 2**20 / pixels
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(round(LARGEST * pairs), 64, int(free / 2 / PAIR * pairs)))


def choose_acceleration(device: torch.device, pixels: float) -> dict[str, Any]:
    """Choose the acceleration of inference, as arguments of :func:`ifn_plugin.engine.acceleration.accelerate`.

    Args:
        device: The device.
        pixels: Number of pixels of all pairs to come.
    """
    pays = pixels >= WORTH_COMPILING.get(device.type, float('inf')) * 2**20
    return dict(dtype='auto', compile=pays, keep_memory=True, tf32=True)
