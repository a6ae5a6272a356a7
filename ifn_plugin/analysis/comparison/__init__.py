"""Comparison of models that are trained and tested under one protocol."""

from .comparison import Comparison
from .runs import RunError
from .settings import combine

__all__ = ['Comparison', 'RunError', 'combine']
