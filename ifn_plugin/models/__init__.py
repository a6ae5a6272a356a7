"""The network: encoder of a pair, decoder with deep supervision, and what prepares a batch for them."""

from .attention import ChannelAttention, SpatialAttention
from .data_preprocessor import PairDataPreprocessor
from .ifn import IFN
from .ifn_head import IFNHead

__all__ = ['IFN', 'ChannelAttention', 'IFNHead', 'PairDataPreprocessor', 'SpatialAttention']
