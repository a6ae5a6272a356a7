"""Evaluation of binary change detection."""

from ifn_plugin.evaluation.baseline import difference_otsu
from ifn_plugin.evaluation.metric import ChangeMetric
from ifn_plugin.evaluation.thresholds import LEVELS, THRESHOLDS, change_probability, scores

__all__ = ['LEVELS', 'THRESHOLDS', 'ChangeMetric', 'change_probability', 'difference_otsu', 'scores']
