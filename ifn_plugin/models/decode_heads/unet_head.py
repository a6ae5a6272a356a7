"""U-Net's decoder on the features of a pair, to compare IFN's with."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.backbones.unet import BasicConvBlock
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.utils import SampleList
from torch import Tensor, nn

from ifn_plugin.models.decode_heads.pyramid import select_pyramid
from ifn_plugin.models.losses import check_label, check_loss, masked_accuracy, one_channel_loss
from ifn_plugin.registry import MODELS


@MODELS.register_module()
class UNetHead(BaseDecodeHead):
    """Decode a pair's features with U-Net's decoder: upsample, concatenate the finer map, convolve twice.

    Ronneberger et al., *U-Net: Convolutional Networks for Biomedical Image Segmentation*, MICCAI 2015,
    https://arxiv.org/abs/1505.04597. Each level halves the channels of the pair's map. With ``IFN`` as its backbone, it
    is a Siamese U-Net on VGG16, without IFN's attention and deep supervision.

    Args:
        in_channels: Channels of the pair's features, fine to coarse, both dates together: those of ``IFN`` by default.
        norm_cfg: Config of the normalization after each convolution.
        kwargs: Other arguments of ``BaseDecodeHead``.
    """

    def __init__(self,
                 in_channels: Sequence[int] = (128, 256, 512, 1024, 1024),
                 norm_cfg: dict | None = dict(type='BN'),
                 **kwargs: Any) -> None:
        super().__init__(
            in_channels=list(in_channels),
            channels=in_channels[0] // 2,
            input_transform='multiple_select',
            norm_cfg=norm_cfg,
            **dict(in_index=list(range(len(in_channels)))) | kwargs)
        self.losses = list(self.loss_decode) if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]
        if self.out_channels == 1:
            for loss in self.losses:
                check_loss(loss, 'UNetHead')
        self.blocks = nn.ModuleList()
        *skips, channels = in_channels
        for skip in reversed(skips):
            self.blocks.append(
                BasicConvBlock(channels + skip, skip // 2, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg))
            channels = skip // 2

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode the features of a pair.

        Args:
            inputs: The pair's features, fine to coarse, (N, C_i, H/s, W/s) with s = 1, 2, 4, 8, 16 from IFN.

        Returns:
            Logits at the size of the finest map, (N, out_channels, H, W).

        Raises:
            ValueError: As :func:`select_pyramid`.
        """
        *skips, x = select_pyramid(self, inputs)
        for block, skip in zip(self.blocks, reversed(skips)):
            x = resize(x, size=skip.shape[2:], mode='bilinear', align_corners=self.align_corners)
            x = block(torch.cat((x, skip), dim=1))
        logits: Tensor = self.cls_seg(x)
        return logits

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            seg_logits: Logits, (N, out_channels, H, W).
            batch_data_samples: Samples with ``gt_sem_seg``, (1, H, W), of 0, 1 and ``ignore_index``.

        Returns:
            Each loss, and ``acc_seg``; of one channel as :class:`ifn_plugin.models.decode_heads.IFNHead` has them, also
            where no pixel is labelled.
        """
        losses: dict[str, Tensor] = {}
        if self.out_channels > 1:
            losses = super().loss_by_feat(seg_logits, batch_data_samples)
            return losses
        label = self._stack_batch_gt(batch_data_samples)
        check_label(label, self.ignore_index)
        logit = resize(seg_logits, size=label.shape[2:], mode='bilinear', align_corners=self.align_corners)
        for loss in self.losses:
            name, value = str(loss.loss_name), one_channel_loss(loss, logit, label, self.ignore_index)
            losses[name] = losses[name] + value if name in losses else value
        losses['acc_seg'] = masked_accuracy(logit, label, self.threshold, self.ignore_index)
        return losses
