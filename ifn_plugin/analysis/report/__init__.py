"""Report of finished runs: one self-contained HTML page, and its tables in Markdown.

It reads the logs and records of training and testing in the work dirs (``ChangeMetric`` with ``EvaluationHook``), and
runs the network only for the pictures.
"""

from ifn_plugin.analysis.report.page import write_report
from ifn_plugin.analysis.report.runs import Run, name_folders, read_run

__all__ = ['Run', 'name_folders', 'read_run', 'write_report']
