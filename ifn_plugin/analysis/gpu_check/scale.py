"""Sizes of the measurements."""

from typing import NamedTuple

PLAIN = 'float32'
# The switches that AccelerationHook enables on a GPU
ALL = 'channels_last+compile+tf32+fused+pin_memory'


class Scale(NamedTuple):
    """Sizes of what is measured.

    Attributes:
        variants: Variants of the network, each a precision with switches of the acceleration; ``float32``, the plain
            network, is always measured too.
        train: Image side in pixels and batch size of a training step.
        inference: The same for inference.
        rounds: Measurements of each variant.
        pairs: Number of drawn pairs that the data pipeline reads.
        side: Side of these pairs, in pixels.
        batch: Batch size of the training with its data pipeline.
        workers: Its data loader workers; ``None`` for the configuration's number.
        steps: Its timed training steps.
        counts: Number of drawn pairs of each split in the short training.
        crop: Side of these pairs, in pixels.
        iterations: Iterations of the short training; ``None`` for the configuration's number.
    """

    variants: tuple[str, ...]
    train: tuple[int, int]
    inference: tuple[tuple[int, int], ...]
    rounds: int
    pairs: int
    side: int
    batch: int
    workers: int | None
    steps: int
    counts: dict[str, int]
    crop: int
    iterations: int | None


# On a GPU: the recipe's sizes
FULL = Scale(
    variants=(f'bfloat16+{ALL}', f'bfloat16+{ALL}+cuda_graphs', 'bfloat16', f'float32+{ALL}'),
    train=(256, 8), inference=((1024, 1), (256, 64)), rounds=15, pairs=16, side=1024, batch=8, workers=None, steps=40,
    counts={'train': 96, 'val': 4, 'test': 16}, crop=256, iterations=None)

# On a CPU: small sizes that still run every line
SMALL = Scale(
    variants=('bfloat16+channels_last+fused+pin_memory', ), train=(32, 2), inference=((32, 1), (32, 2)), rounds=2,
    pairs=2, side=64, batch=2, workers=1, steps=2, counts={'train': 2, 'val': 1, 'test': 1}, crop=64, iterations=2)
