"""Evaluation of binary change detection."""

from ifn_plugin.evaluation.baseline import difference_otsu
from ifn_plugin.evaluation.metric import ChangeMetric
from ifn_plugin.evaluation.thresholds import THRESHOLDS, scores

__all__ = ['THRESHOLDS', 'ChangeMetric', 'difference_otsu', 'scores']
