"""IFN's decoder with deep supervision (the paper's DDN: difference discrimination network)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.utils import SampleList
from torch import Tensor, nn

from ifn_plugin.models.decode_heads.pyramid import select_pyramid
from ifn_plugin.models.layers import (
    ChannelAttention,
    Convolution,
    SpatialAttention,
    decode_and_recompute,
    decode_without_autograd,
    fit,
)
from ifn_plugin.models.layers.compiling import is_compiling
from ifn_plugin.models.losses import MASKED_LOSSES, check_label, check_loss, masked_accuracy, one_channel_loss
from ifn_plugin.registry import MODELS
from ifn_plugin.utils.settings import check_switches

# The paper's maximum; without it, the decoder of a wider encoder would outgrow the encoder
WIDEST = 512


def block_widths(in_channels: Sequence[int]) -> list[tuple[int, ...]]:
    """Compute the output channels of each level's blocks.

    For VGG16's pair features these are the paper's: (512, 512), (512, 256, 256), (256, 128, 128), (128, 64, 64),
    (64, 32, 16).

    Args:
        in_channels: Channels of the pair's features, fine to coarse, both dates together.

    Returns:
        The output channels, level by level, coarse to fine.
    """
    finest, *others = (min(channels // 2, WIDEST) for channels in in_channels)
    *middle, coarsest = others
    return [(coarsest, coarsest), *((width, width // 2, width // 2) for width in reversed(middle)),
            (finest, finest // 2, finest // 4)]


def _check_levels(in_channels: Sequence[int], loss_weights: Sequence[float]) -> None:
    if len(in_channels) < 2 or min(in_channels) < 8:
        raise ValueError('IFNHead needs two levels or more, and at least 8 channels in each, but in_channels is '
                         f'{tuple(in_channels)}.')
    if len(loss_weights) != len(in_channels):
        raise ValueError(f'IFNHead has {len(in_channels)} levels, but loss_weights has {len(loss_weights)} values: '
                         f'{tuple(loss_weights)}.')


def _check_ranges(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise ValueError(f'{name}={value} is out of range. Fix: a number from 0 to 1.')


def _check_inherited(kwargs: dict[str, Any]) -> None:
    if kwargs.get('sampler') is not None:
        raise ValueError('IFNHead does not support a pixel sampler. Fix: leave sampler out, and weight the losses with '
                         'loss_decode and loss_weights.')
    layers = [name for name in ('conv_cfg', 'act_cfg') if kwargs.get(name) is not None]
    if layers:
        raise ValueError("IFNHead's convolutions and activations are the paper's, so it does not support "
                         f'{", ".join(layers)}. Fix: leave it out.')
    if kwargs.get('out_channels', 1) != 1:
        raise ValueError(f'IFNHead predicts one channel, but out_channels is {kwargs["out_channels"]}. Fix: leave it '
                         'out.')


class Block(nn.Sequential):
    """Convolution, activation and normalization, in the paper's order: normalization comes last.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        dropout_ratio: Probability to drop a value at the end.
        norm_cfg: Config of the normalization.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout_ratio: float, norm_cfg: dict) -> None:
        super().__init__(
            Convolution(in_channels, out_channels), nn.PReLU(), build_norm_layer(norm_cfg, out_channels)[1])
        if dropout_ratio > 0:
            self.append(nn.Dropout(dropout_ratio))


class DecoderLevel(nn.Module):
    """Decoder level that fuses the coarser level's features with the pair's and predicts a logit map.

    Args:
        coarse_channels: Channels of the coarser level, 0 for the coarsest level.
        pair_channels: Channels of the pair's features, both dates together.
        widths: Output channels of the blocks.
        dropout_ratio: Probability to drop a value after each block.
        norm_cfg: Config of the normalizations.
    """

    def __init__(self, coarse_channels: int, pair_channels: int, widths: Sequence[int], dropout_ratio: float,
                 norm_cfg: dict) -> None:
        super().__init__()
        channels = [coarse_channels + pair_channels, *widths]
        if coarse_channels:
            self.upsample = nn.ConvTranspose2d(coarse_channels, coarse_channels, 2, stride=2)
            self.channel_attention = ChannelAttention(channels[0])
        self.blocks = nn.ModuleList(Block(a, b, dropout_ratio, norm_cfg) for a, b in zip(channels, widths))
        self.spatial_attention = SpatialAttention()
        self.norm = build_norm_layer(norm_cfg, widths[-1])[1]
        self.logit = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, pair: Tensor, coarse: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decode one level.

        Args:
            pair: The pair's features, (N, P, H, W).
            coarse: The coarser level's features, (N, C, H/2, W/2), rounded up or down.

        Returns:
            Features, (N, widths[-1], H, W), and logits, (N, 1, H, W).
        """
        if coarse is not None and not torch.is_grad_enabled():
            return decode_without_autograd(self, pair, coarse)
        x = pair
        if coarse is not None:
            x = fit(self.upsample(coarse), *pair.shape[2:])
            scale = self.channel_attention.scale((x, pair))
            # scaled together: torch 2.13 compiles a wrong gradient if the parts are scaled one by one
            x = torch.cat((x, pair), dim=1) * scale
        for block in self.blocks:
            x = block(x)
        x = self.spatial_attention(x)
        x = self.norm(x)
        return x, self.logit(x)


@MODELS.register_module()
class IFNHead(BaseDecodeHead):
    """Decode a pair's features into change logits at every scale, with deep supervision.

    Zhang et al., ISPRS Journal 166 (2020), https://doi.org/10.1016/j.isprsjprs.2020.06.003. The logits of every level,
    five with IFN's encoder, are upsampled bilinearly to the label; the loss is the weighted sum of the levels' losses.

    Args:
        in_channels: Channels of the pair's features, fine to coarse, both dates together: IFN's by default; for another
            encoder, twice its channels. They determine the decoder's widths.
        dropout_ratio: Dropout probability after each block: 0.6 in the paper.
        loss_weights: Weight of each level's losses, coarse to fine; all 1 by default. A weight of 0 leaves the level
            out.
        loss_decode: One or several losses: mmseg's ``CrossEntropyLoss`` and ``DiceLoss`` with ``use_sigmoid=True`` and
            ``LovaszLoss`` with ``loss_type='binary'``, which support one-channel logits and ignore pixels of
            ``ignore_index``; or a custom loss, called like mmseg's with logits (N, 1, H, W) and label (N, H, W).
            ``class_weight`` has one value, the weight of changed pixels.
        downsample_label: Downsample the label to each level's size (nearest neighbour) instead of upsampling the logits
            to the label's.
        with_cp: Recompute the maps inside the levels in the backward pass instead of storing them: less memory, more
            time. It has no effect once the head is compiled.
        threshold: Probability (sigmoid of the logit) above which a pixel is changed.
        ignore_index: Label value of pixels that the losses ignore.
        norm_cfg: Config of the normalizations. With ``dict(type='BN', momentum=0.01)``, the running statistics, by
            which validation and test normalize, average ten times as many batches as by default.
        kwargs: Arguments of ``BaseDecodeHead``, such as ``init_cfg``, ``align_corners`` and ``in_index``: the indices
            of the encoder's maps in the order of ``in_channels``; by default the first ones.

    Raises:
        ValueError: For fewer than two levels, another number of weights, a pixel sampler, convolutions or activations
            other than the paper's, no normalization, more than one channel, a loss that does not support one-channel
            logits, or values out of range; from ``forward``, for maps that are not a pyramid or do not have
            ``in_channels`` channels.
    """

    def __init__(self,
                 in_channels: Sequence[int] = (128, 256, 512, 1024, 1024),
                 dropout_ratio: float = 0.,
                 loss_weights: Sequence[float] | None = None,
                 loss_decode: dict | Sequence[dict] = dict(
                     type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
                 downsample_label: bool = False,
                 with_cp: bool = False,
                 threshold: float = 0.5,
                 ignore_index: int = 255,
                 norm_cfg: dict = dict(type='BN'),
                 **kwargs: Any) -> None:
        loss_weights = [1.] * len(in_channels) if loss_weights is None else loss_weights
        check_switches(downsample_label=downsample_label, with_cp=with_cp)
        _check_levels(in_channels, loss_weights)
        _check_ranges(dropout_ratio=dropout_ratio, threshold=threshold)
        _check_inherited(kwargs)
        if norm_cfg is None:
            raise ValueError("IFNHead's blocks end in a normalization, but norm_cfg is None. Fix: leave it out, or "
                             "name one, such as dict(type='BN').")
        blocks = block_widths(in_channels)
        kwargs = dict(
            num_classes=2, out_channels=1, channels=blocks[-1][-1], in_index=list(range(len(in_channels))),
            init_cfg=None) | kwargs
        super().__init__(
            in_channels=list(in_channels),
            input_transform='multiple_select',
            dropout_ratio=0,
            loss_decode=loss_decode,
            threshold=threshold,
            ignore_index=ignore_index,
            norm_cfg=norm_cfg,
            **kwargs)
        del self.conv_seg  # every level has a logit of its own
        self.downsample_label = downsample_label
        self.with_cp = with_cp
        self.loss_weights = tuple(loss_weights)
        self.losses = [self.loss_decode] if not isinstance(self.loss_decode, nn.ModuleList) else list(self.loss_decode)
        for loss in self.losses:
            check_loss(loss, 'IFNHead')
        coarse_channels = [0] + [widths[-1] for widths in blocks[:-1]]
        self.levels = nn.ModuleList(
            DecoderLevel(coarse, pair, widths, dropout_ratio, norm_cfg)
            for coarse, pair, widths in zip(coarse_channels, reversed(in_channels), blocks))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Decode the features of a pair.

        Args:
            inputs: The pair's features, fine to coarse, (N, C_i, H/s, W/s) with s = 1, 2, 4, 8, 16 from IFN.

        Returns:
            Logit maps of all levels, coarse to fine, (N, 1, H/s, W/s) with s = 16, 8, 4, 2, 1.

        Raises:
            ValueError: As :func:`select_pyramid`.
        """
        maps = select_pyramid(self, inputs)
        recompute = self.with_cp and self.training and not is_compiling()
        features, logits = None, []
        for level, pair in zip(self.levels, reversed(maps)):
            decode = partial(decode_and_recompute, level) if recompute else level
            features, logit = decode(pair, features)
            logits.append(logit)
        return tuple(logits)

    def predict(self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: dict) -> Tensor:
        """Predict the logits of the last level at the size of the images: (N, 1, H, W), at least float32."""
        logits = self.forward(inputs)[-1]
        return self.predict_by_feat(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch_img_metas)

    def loss_by_feat(self, seg_logits: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the losses of all levels.

        Args:
            seg_logits: Logit maps of all levels, coarse to fine.
            batch_data_samples: Samples with ``gt_sem_seg``, (1, H, W), of 0, 1 and ``ignore_index``.

        Returns:
            ``level1.loss_ce`` … ``level5.loss_ce``, one for each level, coarse to fine, and each loss, weighted;
            ``acc_seg``, the percentage of labelled pixels that the last level classifies correctly at ``threshold``.
        """
        full_label = self._stack_batch_gt(batch_data_samples)
        if any(type(loss) in MASKED_LOSSES for loss in self.losses):
            check_label(full_label, self.ignore_index)
        losses: dict[str, Tensor] = {}
        for number, (logit, level_weight) in enumerate(zip(seg_logits, self.loss_weights), 1):
            label = full_label
            if self.downsample_label:
                label = F.interpolate(full_label.float(), size=logit.shape[2:], mode='nearest').to(full_label.dtype)
            else:
                logit = resize(logit, size=full_label.shape[2:], mode='bilinear', align_corners=self.align_corners)
            if level_weight == 0:
                # keeps the level's own layers in the graph, as distributed training requires
                losses[f'level{number}.loss_off'] = (0 * logit).sum()  # the sum itself may overflow
                continue
            for loss in self.losses:
                name = f'level{number}.{loss.loss_name}'
                value = level_weight * one_channel_loss(loss, logit, label, self.ignore_index)
                losses[name] = losses[name] + value if name in losses else value
        losses['acc_seg'] = masked_accuracy(logit, label, self.threshold, self.ignore_index)
        return losses
