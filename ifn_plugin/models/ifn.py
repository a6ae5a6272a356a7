"""IFN's encoder of a bi-temporal pair (the paper's DFEN: deep feature extraction network)."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from ifn_plugin.models.backbones.pretrained import load_encoder_weights, spread_channels
from ifn_plugin.models.convolution import Convolution, is_dynamo_compiling
from ifn_plugin.registry import MODELS
from ifn_plugin.utils.configurations import is_type

# Convolutions of VGG16's five groups (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)
VGG16_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _vgg16_layers(in_channels: int) -> Iterator[nn.Module]:
    """VGG16's layers in torchvision's order, so that its weights fit by name, without the last pooling."""
    for group, widths in enumerate(VGG16_GROUPS):
        if group > 0:
            # ceil_mode keeps the last row and column of odd sizes; even sizes are the same without it
            yield nn.MaxPool2d(2, ceil_mode=True)
        for width in widths:
            yield Convolution(in_channels, width)
            yield nn.ReLU(inplace=True)
            in_channels = width


def _pair_up(x: Tensor) -> Tensor:
    """Both dates' maps in turn, (2·N, C, H, W) → side by side, (N, 2·C, H, W), in the memory format that they have."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.cat((x[0::2], x[1::2]), dim=1)
    # channels by number: with -1, inductor cannot order the strides once sizes are symbolic
    return x.reshape(x.shape[0] // 2, 2 * x.shape[1], *x.shape[2:])


def _spread_when_loaded(encoder: nn.Module, in_channels: int) -> None:
    """Let the first convolution of an encoder for other bands load the weights of one for red, green and blue."""
    first = next((layer for layer in encoder.modules()
                  if isinstance(layer, nn.Conv2d) and layer.in_channels == in_channels), None)
    if first is not None and in_channels != 3:
        first._register_load_state_dict_pre_hook(partial(_spread, in_channels))


def _spread(in_channels: int, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    key = f'{prefix}weight'
    if key in state_dict:
        state_dict[key] = spread_channels(state_dict[key], in_channels)


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
        _spread_when_loaded(self.encoder, in_channels)
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
        return [_pair_up(x) for x in maps]


@MODELS.register_module()
class IFN(BasePairEncoder):
    """Encode both dates of a pair with one VGG16 and give their features side by side.

    Zhang et al., *A deeply supervised image fusion network for change detection in high resolution bi-temporal remote
    sensing images*, ISPRS Journal 166 (2020), https://doi.org/10.1016/j.isprsjprs.2020.06.003.

    Both dates pass the encoder as one batch. The features are taken after the last ReLU of each of its five groups:
    64, 128, 256, 512 and 512 a date, at strides 1, 2, 4, 8 and 16.

    Args:
        in_channels: Channels of one date. Weights of an encoder for red, green and blue load into one for other bands:
            see :func:`ifn_plugin.models.backbones.pretrained.spread_channels`.
        frozen: Keep the encoder as it was loaded, as in the paper: no gradient, no autograd graph, evaluation mode,
            no entry in an optimizer that ``ifn_plugin.TrainableOptimWrapperConstructor`` made. ``False`` trains it.
        frozen_stages: With ``frozen=False``, keep this many of the first groups as they were loaded; -1 for none.
        init_cfg: Where the encoder's weights come from when training starts: ``dict(type='Pretrained',
            checkpoint=...)`` with ``'torchvision://vgg16'`` (ImageNet; the default; torchvision itself is not needed)
            or a file that holds a VGG16 of torchvision or a change detector with this encoder; ``None`` for a random
            start. Nothing is read or downloaded before ``init_weights()``.

    Raises:
        ValueError: As ``BasePairEncoder``; for ``frozen_stages`` out of range or beside ``frozen=True``; from
            ``init_weights()``, for a file that does not hold every weight of the encoder, with the keys named.
    """

    def __init__(self,
                 in_channels: int = 3,
                 frozen: bool = True,
                 init_cfg: dict | list | None = dict(type='Pretrained', checkpoint='torchvision://vgg16'),
                 frozen_stages: int = -1) -> None:
        super().__init__(in_channels, frozen, init_cfg)
        if isinstance(frozen_stages, bool) or frozen_stages not in range(-1, len(VGG16_GROUPS) + 1):
            raise ValueError(f'frozen_stages={frozen_stages!r}: a number from -1, for none, to {len(VGG16_GROUPS)} is '
                             'needed.')
        if frozen and frozen_stages != -1:
            raise ValueError(f'frozen=True freezes all stages, and frozen_stages={frozen_stages} the first ones only. '
                             f'Fix: frozen=False with frozen_stages={frozen_stages}, or leave frozen_stages out.')
        self.frozen_stages = frozen_stages
        self.features = nn.Sequential(*_vgg16_layers(in_channels))
        _spread_when_loaded(self.features, in_channels)
        self.taps = [i - 1 for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        self.taps.append(len(self.features) - 1)
        # torchvision's initialization of VGG: without normalization layers, torch's default fades out in 13 layers
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if frozen:
            self.requires_grad_(False)
            self.eval()
        self._first_stages().requires_grad_(False).eval()

    def _first_stages(self) -> nn.Module:
        stages: nn.Module = self.features[:self.taps[self.frozen_stages - 1] + 1 if self.frozen_stages > 0 else 0]
        return stages

    def train(self, mode: bool = True) -> 'IFN':
        """Set training mode, which frozen stages do not follow."""
        super().train(mode)
        self._first_stages().eval()
        return self

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names; other kinds of ``init_cfg`` are mmengine's.

        Raises:
            ValueError: For a file that does not hold every weight of the encoder.
        """
        configs = [self.init_cfg] if isinstance(self.init_cfg, dict) else list(self.init_cfg or [])
        pretrained = [cfg for cfg in configs
                      if is_type(cfg.get('type', 'Pretrained'), WEIGHT_INITIALIZERS, PretrainedInit)]
        if (self.frozen or self.frozen_stages > 0) and not configs:
            frozen, setting = (('The encoder of IFN is', 'frozen=False') if self.frozen else
                               ('The first stages of IFN are', 'frozen_stages=-1'))
            print_log(
                f'{frozen} frozen and init_cfg is None: unless a checkpoint is loaded next, the frozen weights are '
                f"random. Set backbone.{setting} or backbone.init_cfg=dict(type='Pretrained', "
                "checkpoint='torchvision://vgg16').", 'current', logging.WARNING)
        self.init_cfg = [cfg for cfg in configs if cfg not in pretrained] or None
        super().init_weights()
        self.init_cfg = configs or None
        for cfg in pretrained:
            # mmengine's own PretrainedInit would pass over missing and misshapen keys
            load_encoder_weights(self, cfg['checkpoint'], cfg.get('prefix'), cfg.get('map_location', 'cpu'))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Paired maps, fine to coarse, of both dates in turn, (2·N, C, H, W)."""
        maps: list[Tensor] = []
        for index, layer in enumerate(self.features):
            if index - 1 in self.taps and is_dynamo_compiling():
                # From the pair's map, which so takes the place of x. The compiler would keep x, and pair it up only
                # when the decoder needs it, next to the decoder's own maps.
                x = torch.stack([layer(date) for date in maps[-1].chunk(2, dim=1)], dim=1).flatten(0, 1)
            else:
                x = layer(x)
            if index in self.taps:
                maps.append(_pair_up(x))
        return maps
