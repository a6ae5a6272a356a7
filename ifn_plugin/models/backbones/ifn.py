"""IFN's encoder of a bi-temporal pair (the paper's DFEN: deep feature extraction network)."""

import logging
from collections.abc import Iterator

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from ifn_plugin.models.backbones.pair_encoder import BasePairEncoder
from ifn_plugin.models.backbones.pretrained import load_encoder_weights, spread_when_loaded
from ifn_plugin.models.layers import Convolution, encode_from_pairs, pair_up
from ifn_plugin.models.layers.compiling import is_dynamo_compiling
from ifn_plugin.registry import MODELS
from ifn_plugin.utils.configurations import is_type

# Widths of the convolutions in VGG16's five groups (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)
VGG16_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _vgg16_layers(in_channels: int) -> Iterator[nn.Module]:
    """Create VGG16's layers without the last pooling, in torchvision's order, so that its weights match by name."""
    for group, widths in enumerate(VGG16_GROUPS):
        if group > 0:
            # ceil_mode keeps the last row and column of odd sizes; even sizes are unaffected
            yield nn.MaxPool2d(2, ceil_mode=True)
        for width in widths:
            yield Convolution(in_channels, width)
            yield nn.ReLU(inplace=True)
            in_channels = width


@MODELS.register_module()
class IFN(BasePairEncoder):
    """Encode both dates of a pair with one VGG16 and concatenate their features along the channels.

    Zhang et al., *A deeply supervised image fusion network for change detection in high resolution bi-temporal remote
    sensing images*, ISPRS Journal 166 (2020), https://doi.org/10.1016/j.isprsjprs.2020.06.003.

    Both dates pass through the encoder as one batch. The features are taken after the last ReLU of each of the five
    groups: 64, 128, 256, 512 and 512 channels per date, at strides 1, 2, 4, 8 and 16.

    Args:
        in_channels: Channels of one date. Weights of an RGB encoder can be loaded for other bands, see
            :func:`ifn_plugin.models.backbones.pretrained.spread_channels`.
        frozen: Keep the encoder as loaded, as in the paper: no gradient, no autograd graph, evaluation mode, no entry
            in optimizers created by ``ifn_plugin.TrainableOptimWrapperConstructor``. ``False`` trains it.
        frozen_stages: With ``frozen=False``, keep this many of the first groups as loaded; -1 for none.
        init_cfg: Source of the encoder's weights when training starts: ``dict(type='Pretrained', checkpoint=...)``
            with ``'torchvision://vgg16'`` (ImageNet, the default; torchvision itself is not needed), a file with
            torchvision's VGG16 or a change detector with this encoder, or ``None`` for random weights, like
            ``init_cfg=None``. Nothing is read or downloaded before ``init_weights()``.

    Raises:
        ValueError: As ``BasePairEncoder``; if ``frozen_stages`` is out of range or combined with ``frozen=True``; from
            ``init_weights()``, if a file lacks weights of the encoder; the message names the keys.
    """

    def __init__(self,
                 in_channels: int = 3,
                 frozen: bool = True,
                 init_cfg: dict | list | None = dict(type='Pretrained', checkpoint='torchvision://vgg16'),
                 frozen_stages: int = -1) -> None:
        super().__init__(in_channels, frozen, init_cfg)
        if isinstance(frozen_stages, bool) or frozen_stages not in range(-1, len(VGG16_GROUPS) + 1):
            raise ValueError(f'frozen_stages={frozen_stages!r} is invalid. Fix: a number from -1, for none, to '
                             f'{len(VGG16_GROUPS)}.')
        if frozen and frozen_stages != -1:
            raise ValueError(f'frozen=True freezes all stages, but frozen_stages={frozen_stages} only the first ones. '
                             f'Fix: frozen=False with frozen_stages={frozen_stages}, or leave frozen_stages out.')
        self.frozen_stages = frozen_stages
        self.features = nn.Sequential(*_vgg16_layers(in_channels))
        spread_when_loaded(self.features, in_channels)
        self.taps = [i - 1 for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        self.taps.append(len(self.features) - 1)
        # torchvision's initialization of VGG: without normalization, activations under torch's default vanish over the
        # 13 layers
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
        """Set training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._first_stages().eval()
        return self

    def init_weights(self) -> None:
        """Load the weights that ``init_cfg`` names; mmengine handles other types of ``init_cfg``.

        Raises:
            ValueError: If a file lacks weights of the encoder.
        """
        configs = [self.init_cfg] if isinstance(self.init_cfg, dict) else list(self.init_cfg or [])
        pretrained = [cfg for cfg in configs
                      if is_type(cfg.get('type', 'Pretrained'), WEIGHT_INITIALIZERS, PretrainedInit)]
        others = [cfg for cfg in configs if cfg not in pretrained]
        pretrained = [cfg for cfg in pretrained if cfg['checkpoint'] is not None]
        if (self.frozen or self.frozen_stages > 0) and not pretrained and not others:
            frozen, setting = (('The encoder of IFN is', 'frozen=False') if self.frozen else
                               ('The first stages of IFN are', 'frozen_stages=-1'))
            print_log(
                f'{frozen} frozen and init_cfg has no checkpoint: unless one is loaded next, the frozen weights are '
                f"random. Set backbone.{setting} or backbone.init_cfg=dict(type='Pretrained', "
                "checkpoint='torchvision://vgg16').", 'current', logging.WARNING)
        self.init_cfg = others or None
        super().init_weights()
        self.init_cfg = configs or None
        for cfg in pretrained:
            # mmengine's own PretrainedInit ignores missing keys and mismatched shapes
            load_encoder_weights(self, cfg['checkpoint'], cfg.get('prefix'), cfg.get('map_location', 'cpu'))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Encode alternating dates, (2·N, C, H, W), into paired maps, fine to coarse."""
        if is_dynamo_compiling():
            return encode_from_pairs(self.features, self.taps, x)
        maps: list[Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(pair_up(x))
        return maps
