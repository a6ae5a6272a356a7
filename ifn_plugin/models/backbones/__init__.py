"""Siamese encoders."""

from ifn_plugin.models.backbones.ifn import IFN
from ifn_plugin.models.backbones.pair_encoder import PairEncoder

__all__ = ['IFN', 'PairEncoder']
