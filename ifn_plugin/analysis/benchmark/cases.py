"""Configurations, cases and variants of a benchmark."""

from pathlib import Path
from typing import NamedTuple

from ifn_plugin.engine.acceleration import DTYPES

SWITCHES = ('channels_last', 'compile', 'keep_memory', 'tf32', 'cuda_graphs', 'fused', 'pin_memory')
# Default variants: each precision of autocast, with and without acceleration
VARIANTS = tuple(f'{dtype}{switches}' for switches in ('', '+channels_last+compile') for dtype in DTYPES[1:3])
# The variant that runs in ONNX Runtime, on the CPU
ONNX = 'onnxruntime'


class Entry(NamedTuple):
    """A configuration in the benchmark.

    Attributes:
        name: Name in the tables.
        config: Configuration file.
        data_root: Folder of the data set; ``None`` for the one in the configuration.
    """

    name: str
    config: Path
    data_root: str | None = None


class Case(NamedTuple):
    """Measurement that is made of each configuration.

    Attributes:
        task: ``train``, ``inference``, ``end_to_end`` (training with its data pipeline), ``data`` (the training
            pipeline, files in memory) or ``cold_data`` (files on disk).
        size: Side of the images, in pixels; 0 for that of the data set.
        batch: Number of pairs in a batch.
    """

    task: str
    size: int = 0
    batch: int = 1

    @property
    def is_data(self) -> bool:
        """Whether the case measures a data pipeline without a network."""
        return self.task.endswith('data')
