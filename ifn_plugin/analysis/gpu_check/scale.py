"""How large the parts of the check are."""

from typing import NamedTuple

PLAIN = 'float32'
# What AccelerationHook switches on, on a GPU
ALL = 'channels_last+compile+tf32+fused+pin_memory'


class Scale(NamedTuple):
    """Sizes of what is measured.

    Attributes:
        variants: Of the network: a precision, and switches of the acceleration; beside ``float32``, the plain network.
        train: Side in pixels and batch of a training step.
        inference: The same of inference.
        rounds: Turns of each variant.
        pairs: Of the drawn data set that the data pipeline reads.
        side: Of these pairs, in pixels.
        batch: Of the training with its data pipeline.
        workers: That load it; ``None`` for the configuration's.
        steps: Of that training, which are timed.
        counts: Pairs of each split that the short training draws.
        crop: Side of these pairs, in pixels.
        iterations: Of the short training; ``None`` for the configuration's.
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


# The recipe's sizes, for a GPU
FULL = Scale(
    variants=(f'bfloat16+{ALL}', f'bfloat16+{ALL}+cuda_graphs', 'bfloat16', f'float32+{ALL}'),
    train=(256, 8), inference=((1024, 1), (256, 64)), rounds=15, pairs=16, side=1024, batch=8, workers=None, steps=40,
    counts={'train': 96, 'val': 4, 'test': 16}, crop=256, iterations=None)

# Every line, on a CPU
SMALL = Scale(
    variants=('bfloat16+channels_last+fused+pin_memory', ), train=(32, 2), inference=((32, 1), (32, 2)), rounds=2,
    pairs=2, side=64, batch=2, workers=1, steps=2, counts={'train': 2, 'val': 1, 'test': 1}, crop=64, iterations=2)
