"""Selection and validation of a decoder's input maps."""

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor


def select_pyramid(head: BaseDecodeHead, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Select a decoder's input maps, and reject those that would not be aligned: each has half the size of the last.

    Args:
        head: The decoder, with ``in_index`` and ``in_channels``, fine to coarse.
        inputs: All maps of the encoder.

    Returns:
        The maps, (N, C_i, H_i, W_i), fine to coarse.

    Raises:
        ValueError: If there are too few maps, they are not a pyramid, or they have other channels; the message names
            shapes and settings.
    """
    name = type(head).__name__
    if len(inputs) <= max(head.in_index):
        raise ValueError(f"{name} needs {max(head.in_index) + 1} maps, but gets {len(inputs)}. Fix: set the backbone's "
                         'out_indices to several stages, or in_channels to the maps that exist.')
    maps = [inputs[index] for index in head.in_index]
    shapes = [tuple(x.shape) for x in maps]
    sizes = [shape[2:] for shape in shapes]
    if any(len(shape) != 4 for shape in shapes) or not _halve(sizes):
        raise ValueError(f'{name} needs maps (N, C, H, W), fine to coarse, each half as high and wide as the one '
                         f'before, rounded up or down, but gets {_join(shapes)}. {_advice(shapes, head.in_index)}')
    if [shape[1] for shape in shapes] != list(head.in_channels):
        raise ValueError(f"{name}'s in_channels is {tuple(head.in_channels)}, but the maps are {_join(shapes)}. Fix: "
                         f'in_channels={tuple(shape[1] for shape in shapes)}.')
    return maps


def _halve(sizes: Sequence[tuple[int, ...]]) -> bool:
    return all(small in (large // 2, (large + 1) // 2)
               for level in range(1, len(sizes)) for large, small in zip(sizes[level - 1], sizes[level]))


def _join(shapes: Sequence[tuple[int, ...]]) -> str:
    return ', '.join(f'({", ".join(map(str, shape))})' for shape in shapes)


def _advice(shapes: Sequence[tuple[int, ...]], in_index: Sequence[int]) -> str:
    if any(len(shape) != 4 for shape in shapes):
        return 'Fix: configure the backbone to return maps, not tokens.'
    if _halve([shape[1:3] for shape in shapes]):
        return ("The channels come last, as in timm's Swin. Fix: use a backbone whose channels come first, such as "
                'mmseg.SwinTransformer.')
    if _halve([shape[2:] for shape in reversed(shapes)]):
        return (f'They come coarse to fine, as in UNet. Fix: decode_head.in_index={list(reversed(in_index))}, with '
                'in_channels in the same order.')
    return ('Fix: for a dilated ResNet (d8), strides=(1, 2, 2, 2) and dilations=(1, 1, 1, 1) in the backbone; for maps '
            'of one size, as from ViT, BEiT and MAE, a neck that builds a pyramid, such as mmseg.Feature2Pyramid or '
            'mmseg.MultiLevelNeck; otherwise, leave maps out with decode_head.in_index.')
