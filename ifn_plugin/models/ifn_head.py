"""IFN's decoder with deep supervision (the paper's DDN: difference discrimination network)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.models.utils import resize
from mmseg.utils import SampleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ifn_plugin.models.attention import ChannelAttention, SpatialAttention
from ifn_plugin.models.convolution import Convolution, convolve
from ifn_plugin.models.losses import check_loss, one_channel_loss
from ifn_plugin.models.pyramid import check_pyramid
from ifn_plugin.registry import MODELS
from ifn_plugin.utils.settings import check_switches

# torch.compiler has it since 2.3
_is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._dynamo.is_compiling
# The paper's, beyond which richer encoders would buy a decoder that outweighs them
WIDEST = 512


def block_widths(in_channels: Sequence[int]) -> list[tuple[int, ...]]:
    """Output channels of each level's blocks, coarse to fine.

    For VGG16's pair features these are the paper's: (512, 512), (512, 256, 256), (256, 128, 128), (128, 64, 64),
    (64, 32, 16).

    Args:
        in_channels: Channels of the pair's features, fine to coarse, both dates together.
    """
    finest, *others = (min(channels // 2, WIDEST) for channels in in_channels)
    *middle, coarsest = others
    return [(coarsest, coarsest), *((width, width // 2, width // 2) for width in reversed(middle)),
            (finest, finest // 2, finest // 4)]


def _upsample(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """``layer(x)`` of a transposed 2×2 convolution of stride 2: (N, C, h, w) → (N, C, 2h, 2w).

    Compiled, it is a 1×1 convolution to the 2×2 pixels' channels: what follows then reads its result directly, and the
    backward pass is a 1×1 convolution's, which takes less time.
    """
    if not _is_compiling():
        upsampled: Tensor = layer(x)
        return upsampled
    assert layer.bias is not None
    kernel = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]
    pixels = F.conv2d(x, kernel, layer.bias.repeat(4)).unflatten(1, (2, 2, -1))  # (N, 2, 2, C, h, w)
    height, width = x.shape[2:]
    return pixels.permute(0, 4, 1, 5, 2, 3).reshape(-1, 2 * height, 2 * width, x.shape[1]).movedim(3, 1)


class Block(nn.Sequential):
    """Convolution, activation, normalization: in this order, unlike the usual one.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        dropout_ratio: Probability to drop a value at the end.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout_ratio: float) -> None:
        super().__init__(Convolution(in_channels, out_channels), nn.PReLU(), nn.BatchNorm2d(out_channels))
        if dropout_ratio > 0:
            self.append(nn.Dropout(dropout_ratio))


def _upsample_and_convolve(coarse: Tensor, upsample: nn.ConvTranspose2d, kernel: Tensor) -> Tensor:
    """``F.conv2d(upsample(coarse), kernel, padding=1)`` with less than half of the multiplications.

    A 3×3 convolution after a transposed 2×2 convolution of stride 2 is a transposed 4×4 convolution of stride 2.

    Args:
        coarse: (N, C, h, w), with h and w of at least 2.
        upsample: From C to C channels, with bias.
        kernel: (O, C, 3, 3).

    Returns:
        (N, O, 2h, 2w).
    """
    assert upsample.bias is not None
    merged = F.conv_transpose2d(upsample.weight, kernel.flip(2, 3).transpose(0, 1))
    # Beyond the border is nothing, not even the bias. What it gives to the nine pixels of a 3×3 map are its shares in
    # the corners, edges and middle of any.
    shares = F.conv2d(upsample.bias[:, None, None].expand(-1, 3, 3)[None], kernel, padding=1)
    rows, columns = (_third(2 * side, coarse.device) for side in coarse.shape[2:])
    x = F.conv_transpose2d(coarse, merged, stride=2, padding=1)
    x += shares[..., rows[:, None], columns]
    return x


def _fit(x: Tensor, height: int, width: int) -> Tensor:
    """Crop at the lower and right border, or repeat what is there: encoders round odd sizes up or down."""
    missing = (0, max(width - x.shape[3], 0), 0, max(height - x.shape[2], 0))
    return (F.pad(x, missing, mode='replicate') if any(missing) else x)[..., :height, :width]


def _third(size: int, device: torch.device) -> Tensor:
    """0 for the first place, 2 for the last, 1 for those between: (size, )."""
    place = torch.arange(size, device=device)
    return (place > 0).long() + (place == size - 1).long()


class DecoderLevel(nn.Module):
    """One level of the decoder: the coarser level's features and the pair's become finer features and a logit map.

    Args:
        coarse_channels: Channels of the level below, 0 where there is none.
        pair_channels: Channels of the pair's features, both dates together.
        widths: Output channels of the blocks.
        dropout_ratio: Probability to drop a value after each block.
    """

    def __init__(self, coarse_channels: int, pair_channels: int, widths: Sequence[int], dropout_ratio: float) -> None:
        super().__init__()
        channels = [coarse_channels + pair_channels, *widths]
        if coarse_channels:
            self.upsample = nn.ConvTranspose2d(coarse_channels, coarse_channels, 2, stride=2)
            self.channel_attention = ChannelAttention(channels[0])
        self.blocks = nn.ModuleList(Block(a, b, dropout_ratio) for a, b in zip(channels, widths))
        self.spatial_attention = SpatialAttention()
        self.norm = nn.BatchNorm2d(widths[-1])
        self.logit = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, pair: Tensor, coarse: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decode one level.

        Args:
            pair: The pair's features, (N, P, H, W).
            coarse: The level below, (N, C, H/2, W/2), rounded up or down.

        Returns:
            Features, (N, widths[-1], H, W), and logits, (N, 1, H, W).
        """
        first, *others = self.blocks
        x = first(pair) if coarse is None else self._fuse(pair, coarse)
        for block in others:
            x = block(x)
        x = self.norm(self.spatial_attention(x))
        return x, self.logit(x)

    def _fuse(self, pair: Tensor, coarse: Tensor) -> Tensor:
        """The first block of both, concatenated and weighted by the channel attention, at less cost."""
        height, width = pair.shape[2:]
        upsampled = _fit(_upsample(coarse, self.upsample), height, width)
        scale = self.channel_attention.scale((upsampled, pair))
        block = self.blocks[0]
        assert isinstance(block, Block)
        convolution, *others = block
        assert isinstance(convolution, Convolution)
        if torch.is_grad_enabled():
            # in one piece: torch 2.13 compiles a wrong gradient for parts that are scaled one by one
            x = convolution(torch.cat((upsampled, pair), dim=1) * scale)
        elif scale.shape[0] == 1 and pair[0, 0].numel() > convolution.weight[:, 0].numel():
            # One large image: scaling the kernels, and adding up what the parts give, spares two copies of the maps
            kernels = (convolution.weight * scale).split([upsampled.shape[1], pair.shape[1]], dim=1)
            if (height, width) == (2 * coarse.shape[2], 2 * coarse.shape[3]):
                del upsampled  # not to be held any longer
                x = _upsample_and_convolve(coarse, self.upsample, kernels[0])
            else:
                x = convolve(upsampled, kernels[0])
                del upsampled
            x += convolve(pair, kernels[1], convolution.bias)
        else:
            x = torch.cat((upsampled, pair), dim=1).mul_(scale)
            del upsampled
            x = convolution(x)
        for layer in others:
            x = layer(x)
        return x


class _WithoutStatistics:
    """Let normalizations use a batch's statistics without adding them to the running ones, as often as entered."""

    def __init__(self, module: nn.Module) -> None:
        # mmcv's SyncBatchNorm, too
        self.norms: list[Any] = [layer for layer in module.modules()
                                 if layer.training and getattr(layer, 'running_mean', None) is not None]

    def __enter__(self) -> None:
        self.momenta = [norm.momentum for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.

    def __exit__(self, *_: object) -> None:
        for norm, momentum in zip(self.norms, self.momenta):
            norm.momentum = momentum
            if getattr(norm, 'num_batches_tracked', None) is not None:
                norm.num_batches_tracked -= 1


def _forward_and_recomputation(level: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    # a batch must count once only, though its maps are computed twice
    return nullcontext(), _WithoutStatistics(level)


@MODELS.register_module()
class IFNHead(BaseDecodeHead):
    """Decode a pair's features into change logits at every scale, five of them with IFN's, and supervise them all.

    Zhang et al., ISPRS Journal 166 (2020), https://doi.org/10.1016/j.isprsjprs.2020.06.003. The logits of every level
    are upsampled bilinearly to the label; the loss is the weighted sum of the five levels' losses.

    Args:
        in_channels: Channels of the pair's features, fine to coarse, both dates together: IFN's by default; for another
            encoder, twice its channels. The decoder's widths follow from them.
        dropout_ratio: Probability to drop a value after each block: 0.6 in the paper.
        loss_weights: Weight of each level's losses, coarse to fine; all 1 by default. A weight of 0 leaves the level
            out.
        loss_decode: One or several losses: of mmseg's, those that know one-channel logits, ``CrossEntropyLoss``
            and ``DiceLoss`` with ``use_sigmoid=True`` and ``LovaszLoss`` with ``loss_type='binary'``, in which pixels
            of ``ignore_index`` do not count; or one of your own, called like mmseg's with logits (N, 1, H, W) and label
            (N, H, W). ``class_weight`` has one value, what a changed pixel counts.
        downsample_label: Bring the label down to each level's size, by its nearest pixels, instead of the logits up to
            the label's.
        with_cp: Do not keep the maps inside the levels for the backward pass, but compute them again: less memory, more
            time. It has no effect once the head is compiled.
        threshold: A pixel is "changed" where the sigmoid of its logit is above this.
        ignore_index: The label's value for pixels that are not to be learnt.
        kwargs: ``BaseDecodeHead``'s, such as ``init_cfg``, ``align_corners`` and ``in_index``: which of the encoder's
            maps to take, in the order of ``in_channels``; by default the first ones.

    Raises:
        ValueError: For fewer than two levels, another number of weights, a pixel sampler, layers other than the
            paper's, more than one channel, a loss that does not know one-channel logits, or values out of range; from
            ``forward``, for maps that are no pyramid or do not have ``in_channels`` channels.
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
                 **kwargs: Any) -> None:
        if len(in_channels) < 2 or min(in_channels) < 8:
            raise ValueError('IFNHead needs two levels or more, and at least 8 channels in each, but in_channels is '
                             f'{tuple(in_channels)}.')
        loss_weights = [1.] * len(in_channels) if loss_weights is None else loss_weights
        if len(loss_weights) != len(in_channels):
            raise ValueError(f'IFNHead has {len(in_channels)} levels, but loss_weights has {len(loss_weights)} values: '
                             f'{tuple(loss_weights)}.')
        check_switches(downsample_label=downsample_label, with_cp=with_cp)
        for name, value in (('dropout_ratio', dropout_ratio), ('threshold', threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value}: a number from 0 to 1 is needed.')
        blocks = block_widths(in_channels)
        if kwargs.get('sampler') is not None:
            raise ValueError('IFNHead has no pixel sampler: use loss_decode and loss_weights to weigh its losses.')
        layers = [name for name in ('conv_cfg', 'norm_cfg', 'act_cfg') if kwargs.get(name) is not None]
        if layers:
            raise ValueError(f"IFNHead's layers are the paper's, whatever {', '.join(layers)} may say: leave it out. "
                             "sync_bn='torch' in the configuration turns all batch normalizations into SyncBN.")
        if kwargs.get('out_channels', 1) != 1:
            raise ValueError(f'IFNHead predicts one channel, but out_channels is {kwargs["out_channels"]}: leave it '
                             'out.')
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
            **kwargs)
        del self.conv_seg  # every level has a logit of its own
        self.downsample_label = downsample_label
        self.with_cp = with_cp
        self.loss_weights = tuple(loss_weights)
        self.losses = [self.loss_decode] if not isinstance(self.loss_decode, nn.ModuleList) else list(self.loss_decode)
        for loss in self.losses:
            check_loss(loss)
        coarse_channels = [0] + [widths[-1] for widths in blocks[:-1]]
        self.levels = nn.ModuleList(
            DecoderLevel(coarse, pair, widths, dropout_ratio)
            for coarse, pair, widths in zip(coarse_channels, reversed(in_channels), blocks))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Decode.

        Args:
            inputs: The pair's features, fine to coarse, (N, C_i, H/s, W/s) with s = 1, 2, 4, 8, 16 from IFN.

        Returns:
            Logit maps of all levels, coarse to fine, (N, 1, H/s, W/s) with s = 16, 8, 4, 2, 1.
        """
        if len(inputs) <= max(self.in_index):
            raise ValueError(f'IFNHead needs {max(self.in_index) + 1} maps, but gets {len(inputs)}. Fix: set the '
                             "backbone's out_indices to several stages, or in_channels to the maps that there are.")
        maps = self._transform_inputs(inputs)
        check_pyramid('IFNHead', maps, self.in_channels, self.in_index)
        features, logits = None, []
        for level, pair in zip(self.levels, reversed(maps)):
            if self.with_cp and self.training and not _is_compiling():
                contexts = partial(_forward_and_recomputation, level)
                features, logit = checkpoint(level, pair, features, use_reentrant=False, context_fn=contexts)
            else:
                features, logit = level(pair, features)
            logits.append(logit)
        return tuple(logits)

    def predict(self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: dict) -> Tensor:
        """Logits of the last level, at the size of the images: (N, 1, H, W), at least float32."""
        logits = self.forward(inputs)[-1]
        return self.predict_by_feat(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch_img_metas)

    def loss_by_feat(self, seg_logits: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of all levels.

        Args:
            seg_logits: Logit maps of all levels, coarse to fine.
            batch_data_samples: Samples with ``gt_sem_seg``, (1, H, W), of 0, 1 and ``ignore_index``.

        Returns:
            ``level1.loss_ce`` … ``level5.loss_ce``, one for each level, coarse to fine, and kind of loss, already
            weighted; ``acc_seg``, the percentage of labelled pixels that the last level gets right at ``threshold``.
        """
        whole = self._stack_batch_gt(batch_data_samples)
        losses: dict[str, Tensor] = {}
        for number, (logit, level_weight) in enumerate(zip(seg_logits, self.loss_weights), 1):
            label = whole
            if self.downsample_label:
                label = F.interpolate(whole.float(), size=logit.shape[2:], mode='nearest').to(whole.dtype)
            else:
                logit = resize(logit, size=whole.shape[2:], mode='bilinear', align_corners=self.align_corners)
            if level_weight == 0:
                # keeps the level's own layers in the graph, which distributed training insists on
                losses[f'level{number}.loss_off'] = 0 * logit.sum()
                continue
            for loss in self.losses:
                name = f'level{number}.{loss.loss_name}'
                value = level_weight * one_channel_loss(loss, logit, label, self.ignore_index)
                losses[name] = losses[name] + value if name in losses else value
        losses['acc_seg'] = self._accuracy(logit, label)
        return losses

    def _accuracy(self, logit: Tensor, label: Tensor) -> Tensor:
        at_threshold = torch.full_like(logit, self.threshold).logit()
        value: Tensor = accuracy(
            torch.cat((at_threshold, logit), dim=1), label.squeeze(1), ignore_index=self.ignore_index)
        return value
