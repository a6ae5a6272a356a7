"""Data preprocessor of bi-temporal pairs."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models import SegDataPreProcessor

from ifn_plugin.registry import MODELS
from ifn_plugin.utils.settings import check_switches


@MODELS.register_module()
class PairDataPreprocessor(SegDataPreProcessor):
    """Normalize and batch pairs, each stacked as one image (2·C, H, W), date 1's channels first.

    Args:
        mean: Mean of each channel of one date, in the order after the channel conversion, in grey levels.
        std: Standard deviation of each channel of one date, likewise.
        bgr_to_rgb: Reverse the channel order of each date.
        rgb_to_bgr: Alias of ``bgr_to_rgb``.
        kwargs: Arguments of mmseg's ``SegDataPreProcessor``.

    Raises:
        ValueError: If settings contradict each other; from ``forward``, if a pair does not have 2·C channels.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], bgr_to_rgb: bool = False,
                 rgb_to_bgr: bool = False, **kwargs: Any) -> None:
        check_switches(bgr_to_rgb=bgr_to_rgb, rgb_to_bgr=rgb_to_bgr)
        if bgr_to_rgb and rgb_to_bgr:
            raise ValueError('bgr_to_rgb=True and rgb_to_bgr=True contradict each other. Fix: keep the one that the '
                             'pipeline needs.')
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ValueError(f'mean={tuple(mean)} and std={tuple(std)} are invalid. Fix: one value for each channel of '
                             'a date in both, and std above 0.')
        for paddings in (kwargs, kwargs.get('test_cfg') or {}):
            if paddings.get('size') is not None and paddings.get('size_divisor') is not None:
                raise ValueError(f'size={paddings["size"]} and size_divisor={paddings["size_divisor"]} contradict each '
                                 'other. Fix: leave one of them out.')
        super().__init__(**kwargs)
        self.channels = len(mean)
        # set here, since mmengine only accepts one or three channels
        self._enable_normalize = True
        self.reverse_channels = bgr_to_rgb or rgb_to_bgr
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).repeat(2)[:, None, None], False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Convert, normalize, pad and stack a batch.

        Args:
            data: ``inputs``, a sequence of (2·C, H, W), and ``data_samples``.
            training: Whether to pad as in training or, by ``test_cfg``, as in testing.

        Returns:
            ``inputs``, (N, 2·C, H, W), float32, and ``data_samples``.

        Raises:
            ValueError: If a pair does not have 2·C channels.
        """
        for image in data['inputs']:
            if len(image) != 2 * self.channels:
                raise ValueError(f'A pair of {2 * self.channels} channels is needed, {self.channels} per date, but the '
                                 f'pipeline gives {len(image)}.')
        data = self.cast_data(data)  # to the device, before the channels are reversed there
        if self.reverse_channels:
            inputs = [x.unflatten(0, (2, self.channels)).flip(1).flatten(0, 1) for x in data['inputs']]
            data = dict(data, inputs=inputs)
        return super().forward(data, training)
