"""Benchmark of configurations: parameters, arithmetic, time, memory and data pipeline, side by side.

Every row of the tables is measured in its own process. The processes take turns, so that any other load on the machine
affects all of them.
"""

from ifn_plugin.analysis.benchmark.cases import ONNX, SWITCHES, VARIANTS, Case, Entry
from ifn_plugin.analysis.benchmark.runner import run_benchmark
from ifn_plugin.analysis.benchmark.subject import Subject
from ifn_plugin.analysis.benchmark.tables import case_table, cost_tables, read_result, report, write_result

__all__ = ['ONNX', 'SWITCHES', 'VARIANTS', 'Case', 'Entry', 'Subject', 'case_table', 'cost_tables',
           'read_result', 'report', 'run_benchmark', 'write_result']
