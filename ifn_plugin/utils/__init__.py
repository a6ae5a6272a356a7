"""Helpers of the whole package."""

from .text import abbreviate, readable

__all__ = ['abbreviate', 'readable']
