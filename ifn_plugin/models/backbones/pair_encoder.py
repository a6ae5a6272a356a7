"""Siamese encoders of bi-temporal pairs."""

from abc import abstractmethod

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ifn_plugin.models.backbones.pretrained import spread_when_loaded
from ifn_plugin.models.layers import pair_up
from ifn_plugin.registry import MODELS


class BasePairEncoder(BaseModule):
    """Base class of Siamese encoders: both dates are encoded as one batch, their features concatenated by channel.

    Args:
        in_channels: Channels of one date.
        frozen: Keep the encoder as loaded.
        init_cfg: mmengine's initialization config.

    Raises:
        ValueError: If ``frozen`` is neither ``True`` nor ``False``; from ``forward``, if the dates differ in shape or
            do not have ``in_channels`` channels.
    """

    def __init__(self, in_channels: int, frozen: bool, init_cfg: dict | list | None) -> None:
        if not isinstance(frozen, bool):
            raise ValueError(f'{type(self).__name__}(frozen={frozen!r}): frozen must be True or False. Fix: to freeze '
                             "only the first stages, set frozen=False and frozen_stages (IFN's own, or that of "
                             "PairEncoder's backbone).")
        super().__init__(init_cfg)
        self.init_cfg: dict | list | None
        self.in_channels = in_channels
        self.frozen = frozen

    @abstractmethod
    def encode(self, x: Tensor) -> list[Tensor]:
        """Encode alternating dates, (2·N, C, H, W), into paired maps, fine to coarse."""

    def train(self, mode: bool = True) -> 'BasePairEncoder':
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, t1: Tensor, t2: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode a pair.

        Args:
            t1: Date 1, (N, C, H, W), normalized; or, without ``t2``, both dates, (N, 2·C, H, W), date 1's channels
                first.
            t2: Date 2, (N, C, H, W).

        Returns:
            Feature maps, fine to coarse, (N, 2·F, H/s, W/s), rounded as the encoder does, with F channels per date,
            date 1's first, and the encoder's strides s.

        Raises:
            ValueError: If the dates differ in shape or do not have ``in_channels`` channels.
        """
        if t2 is not None and t1.shape != t2.shape:
            raise ValueError(f'The two dates differ in shape: {tuple(t1.shape)} and {tuple(t2.shape)}. '
                             'Fix: bring both to the same size and number of channels.')
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
    """Encode both dates of a pair with any backbone of mmseg, mmpretrain or timm that returns a feature pyramid.

    ``IFNHead`` takes twice its channels as ``in_channels``. It needs maps that are each half as high and wide as the
    one before, such as those of ResNet, Swin or ConvNeXt. For ViT, BEiT or MAE, the detector needs a neck, which gets
    the channels of both dates: ``neck=dict(type='mmseg.Feature2Pyramid', embed_dim=2 * 768, ...)``.

    Args:
        backbone: Config of the backbone with its scope, such as ``dict(type='mmseg.ResNetV1c', depth=18, ...)``, or
            ``dict(type='mmseg.TIMMBackbone', model_name=..., features_only=True, pretrained=True)`` for timm. Its
            ``init_cfg`` names the source of its weights when training starts; timm has ``pretrained`` instead.
        in_channels: Channels of one date, as in the backbone's own config. Weights of an RGB encoder can be loaded for
            other bands, see :func:`ifn_plugin.models.backbones.pretrained.spread_channels`.
        frozen: Keep the encoder as loaded: no gradient, no autograd graph, evaluation mode, no entry in optimizers
            created by ``ifn_plugin.TrainableOptimWrapperConstructor``. To freeze only the first stages, use the
            backbone's own ``frozen_stages``, if it has it.
        init_cfg: mmengine's initialization config of the entire encoder.

    Raises:
        ValueError: As ``BasePairEncoder``; from ``forward``, if the backbone returns anything but maps.
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
        """Encode alternating dates, (2·N, C, H, W), into paired maps, fine to coarse."""
        maps = self.encoder(x)
        maps = [maps] if isinstance(maps, Tensor) else maps
        for x in maps:
            if not isinstance(x, Tensor) or x.dim() != 4:
                found = f'a tensor of {tuple(x.shape)}' if isinstance(x, Tensor) else f'a {type(x).__name__}'
                raise ValueError(f'{type(self.encoder).__name__} returns {found}, but maps (N, C, H, W) are needed. '
                                 'Fix: configure it to return features without class tokens.')
        return [pair_up(x) for x in maps]
