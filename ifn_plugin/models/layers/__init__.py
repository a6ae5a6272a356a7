"""Layers of the network, and what computes one of its steps in less time or memory.

The latter are drop-in functions: each has the signature of what it stands for, gives the same up to rounding, and says
why it is there.
"""

from ifn_plugin.models.layers.attention import ChannelAttention, SpatialAttention
from ifn_plugin.models.layers.convolution import Convolution
from ifn_plugin.models.layers.fusion import decode_without_autograd
from ifn_plugin.models.layers.pairing import encode_from_pairs, pair_up
from ifn_plugin.models.layers.recomputation import decode_and_recompute
from ifn_plugin.models.layers.upsampling import Upsampling, fit

__all__ = [
    'ChannelAttention', 'Convolution', 'SpatialAttention', 'Upsampling', 'decode_and_recompute',
    'decode_without_autograd', 'encode_from_pairs', 'fit', 'pair_up'
]
