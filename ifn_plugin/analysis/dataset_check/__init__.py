"""Check of a data set: incomplete pairs, damaged files, mismatched sizes, invalid label values, duplicates, leaks."""

from ifn_plugin.analysis.dataset_check.checks import check_split
from ifn_plugin.analysis.dataset_check.duplicates import find_duplicates
from ifn_plugin.analysis.dataset_check.page import write_summary
from ifn_plugin.analysis.dataset_check.records import Finding, Pair, Split
from ifn_plugin.analysis.dataset_check.splits import find_splits
from ifn_plugin.analysis.dataset_check.summary import summarize

__all__ = ['Finding', 'Pair', 'Split', 'check_split', 'find_duplicates', 'find_splits', 'summarize', 'write_summary']
