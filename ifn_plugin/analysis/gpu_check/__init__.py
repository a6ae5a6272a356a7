"""Check of everything that depends on a GPU: tests, agreement with the CPU, cost, data pipeline and a short training.

Each part runs in its own process, so that a failing or hanging part does not stop the others. On a machine without a
GPU, the same parts run at small sizes.
"""

from ifn_plugin.analysis.gpu_check.parts import PARTS
from ifn_plugin.analysis.gpu_check.runner import run_check
from ifn_plugin.analysis.gpu_check.scale import FULL, SMALL, Scale

__all__ = ['FULL', 'PARTS', 'SMALL', 'Scale', 'run_check']
