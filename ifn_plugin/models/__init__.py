"""Models: Siamese encoders, the decoder with deep supervision, and the data preprocessor."""

from ifn_plugin.models.backbones import IFN, PairEncoder
from ifn_plugin.models.data_preprocessor import PairDataPreprocessor
from ifn_plugin.models.decode_heads import IFNHead, UNetHead
from ifn_plugin.models.layers import ChannelAttention, SpatialAttention
from ifn_plugin.models.tta import ChangeTTAModel

__all__ = [
    'IFN', 'ChangeTTAModel', 'ChannelAttention', 'IFNHead', 'PairDataPreprocessor', 'PairEncoder', 'SpatialAttention',
    'UNetHead'
]
