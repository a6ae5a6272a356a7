"""Helpers shared by the entire package."""

from ifn_plugin.utils.text import abbreviate, readable

__all__ = ['abbreviate', 'readable']
