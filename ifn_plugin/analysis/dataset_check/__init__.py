"""Check of a data set: incomplete pairs, damaged files, sizes and label values that do not fit, duplicates, leaks."""

from .checks import check_split
from .duplicates import find_duplicates
from .records import Finding, Pair, Split
from .splits import find_splits
from .summary import summarize, write_summary

__all__ = ['Finding', 'Pair', 'Split', 'check_split', 'find_duplicates', 'find_splits', 'summarize', 'write_summary']
