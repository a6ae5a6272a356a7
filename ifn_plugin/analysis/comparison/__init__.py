"""Comparison of models, trained and tested under one protocol."""

from ifn_plugin.analysis.comparison.comparison import Comparison
from ifn_plugin.analysis.comparison.runs import RunError
from ifn_plugin.analysis.comparison.settings import combine

__all__ = ['Comparison', 'RunError', 'combine']
