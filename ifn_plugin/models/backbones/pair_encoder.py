"""Siamese encoders of bi-temporal pairs."""

from abc import abstractmethod

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ifn_plugin.models.backbones.pretrained import spread_when_loaded
from ifn_plugin.models.layers import pair_up
from ifn_plugin.registry import MODELS


class BasePairEncoder(BaseModule):
    """What encodes both dates of a pair as one batch, and gives their features side by side.

    Args:
        in_channels: Channels of one date.
        frozen: Keep the encoder as it was loaded.
        init_cfg: mmengine's.

    Raises:
        ValueError: For a ``frozen`` that is neither ``True`` nor ``False``; from ``forward``, for dates that differ in
            shape or do not have ``in_channels`` channels.
    """

    def __init__(self, in_channels: int, frozen: bool, init_cfg: dict | list | None) -> None:
        if not isinstance(frozen, bool):
            raise ValueError(f'{type(self).__name__}(frozen={frozen!r}): it is True or False. Fix: to freeze the first '
                             "stages only, frozen=False, and frozen_stages: IFN's own or PairEncoder's backbone's.")
        super().__init__(init_cfg)
        self.init_cfg: dict | list | None
        self.in_channels = in_channels
        self.frozen = frozen

    @abstractmethod
    def encode(self, x: Tensor) -> list[Tensor]:
        """Paired maps, fine to coarse, of both dates in turn, (2·N, C, H, W)."""

    def train(self, mode: bool = True) -> 'BasePairEncoder':
        """Set training mode, which a frozen encoder does not follow."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, t1: Tensor, t2: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode a pair.

        Args:
            t1: Date 1, (N, C, H, W), normalized; or, without ``t2``, both dates, (N, 2·C, H, W), date 1's channels
                first.
            t2: Date 2, (N, C, H, W).

        Returns:
            Maps, fine to coarse, (N, 2·F, ⌈H/s⌉, ⌈W/s⌉) with F features a date, date 1's first, and the encoder's
            strides s.
        """
        if t2 is not None and t1.shape != t2.shape:
            raise ValueError(f'The two dates differ in shape: {tuple(t1.shape)} and {tuple(t2.shape)}. '
                             'Bring both to the same size and number of channels.')
        pair = t1 if t2 is None else torch.cat((t1, t2), dim=1)
        n, channels, height, width = pair.shape
        if channels != 2 * self.in_channels:
            raise ValueError(f'{type(self).__name__}(in_channels={self.in_channels}) needs {self.in_channels} channels '
                             f'for each date, so {2 * self.in_channels} for the pair, but got {channels}.')
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            dates = pair.reshape(n * 2, self.in_channels, height, width)
            return tuple(self.encode(dates))


@MODELS.register_module()
class PairEncoder(BasePairEncoder):
    """Encode both dates of a pair with any backbone of mmseg, mmpretrain or timm that gives a pyramid of features.

    ``IFNHead`` takes twice their channels as ``in_channels``. It needs maps that are each half as high and wide as the
    one before, as ResNet's, Swin's or ConvNeXt's; those of ViT, BEiT or MAE become so in a neck of the detector, which
    has both dates' channels: ``neck=dict(type='mmseg.Feature2Pyramid', embed_dim=2 * 768, ...)``.

    Args:
        backbone: The backbone's settings, with its scope, such as ``dict(type='mmseg.ResNetV1c', depth=18, ...)``, or
            ``dict(type='mmseg.TIMMBackbone', model_name=..., features_only=True, pretrained=True)`` for timm's. Its
            ``init_cfg`` says where its weights come from when training starts; timm has a say of its own.
        in_channels: Channels of one date, which the backbone's own settings say too. Weights of an encoder for red,
            green and blue load into one for other bands: see
            :func:`ifn_plugin.models.backbones.pretrained.spread_channels`.
        frozen: Keep the encoder as it was loaded: no gradient, no autograd graph, evaluation mode, no entry in an
            optimizer that ``ifn_plugin.TrainableOptimWrapperConstructor`` made. The first stages only are frozen by
            the backbone's own ``frozen_stages``, where it has that.
        init_cfg: mmengine's, for the whole.

    Raises:
        ValueError: As ``BasePairEncoder``; and from ``forward``, for a backbone that gives anything but maps.
    """

    def __init__(self, backbone: dict, in_channels: int = 3, frozen: bool = False,
                 init_cfg: dict | list | None = None) -> None:
        super().__init__(in_channels, frozen, init_cfg)
        self.encoder = MODELS.build(backbone)
        spread_when_loaded(self.encoder, in_channels)
        if frozen:
            self.requires_grad_(False)
            self.eval()

    def encode(self, x: Tensor) -> list[Tensor]:
        """Paired maps, fine to coarse, of both dates in turn, (2·N, C, H, W)."""
        maps = self.encoder(x)
        maps = [maps] if isinstance(maps, Tensor) else maps
        for x in maps:
            if not isinstance(x, Tensor) or x.dim() != 4:
                what = f'a tensor of {tuple(x.shape)}' if isinstance(x, Tensor) else f'a {type(x).__name__}'
                raise ValueError(f'{type(self.encoder).__name__} gives {what}, but maps (N, C, H, W) are needed. Fix: '
                                 'let it give features without class tokens.')
        return [pair_up(x) for x in maps]
