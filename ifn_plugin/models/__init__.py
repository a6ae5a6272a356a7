"""The network: encoder of a pair, decoder with deep supervision, and what prepares a batch for them."""

from .attention import ChannelAttention, SpatialAttention
from .data_preprocessor import PairDataPreprocessor
from .ifn import IFN, PairEncoder
from .ifn_head import IFNHead
from .tta import ChangeTTAModel

__all__ = [
    'IFN', 'ChangeTTAModel', 'ChannelAttention', 'IFNHead', 'PairDataPreprocessor', 'PairEncoder', 'SpatialAttention'
]
