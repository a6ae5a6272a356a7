"""Decoders."""

from ifn_plugin.models.decode_heads.ifn_head import IFNHead
from ifn_plugin.models.decode_heads.unet_head import UNetHead

__all__ = ['IFNHead', 'UNetHead']
