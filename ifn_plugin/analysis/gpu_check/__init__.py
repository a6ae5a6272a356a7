"""Check of everything that a GPU decides: tests, agreement with the CPU, cost, data pipeline and a training.

Each part is a process of its own, so that one that fails or hangs leaves the others alone. On a machine without a GPU
the same parts run small.
"""

from ifn_plugin.analysis.gpu_check.parts import PARTS
from ifn_plugin.analysis.gpu_check.runner import run_check
from ifn_plugin.analysis.gpu_check.scale import FULL, SMALL, Scale

__all__ = ['FULL', 'PARTS', 'SMALL', 'Scale', 'run_check']
