"""Layers of the network, and optimized replacements of single steps.

Each replacement is a drop-in function: it has the signature of the plain step, gives the same result up to rounding,
and states its purpose.
"""

from ifn_plugin.models.layers.attention import ChannelAttention, SpatialAttention
from ifn_plugin.models.layers.convolution import Convolution
from ifn_plugin.models.layers.fitting import fit
from ifn_plugin.models.layers.fusion import decode_without_autograd
from ifn_plugin.models.layers.pairing import encode_from_pairs, pair_up
from ifn_plugin.models.layers.recomputation import decode_and_recompute

__all__ = [
    'ChannelAttention', 'Convolution', 'SpatialAttention', 'decode_and_recompute',
    'decode_without_autograd', 'encode_from_pairs', 'fit', 'pair_up'
]
