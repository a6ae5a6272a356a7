"""Decoders."""

from ifn_plugin.models.decode_heads.ifn_head import IFNHead

__all__ = ['IFNHead']
