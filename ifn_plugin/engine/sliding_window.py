"""mmseg's sliding window inference, in batches of windows."""

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor


def batched_slide_inference(window_batch: int) -> Callable:
    """Make a replacement for mmseg's ``slide_inference`` that runs ``window_batch`` windows at a time."""

    def slide_inference(self: Any, inputs: Tensor, batch_img_metas: Sequence[dict[str, Any]]) -> Any:
        """Run mmseg's sliding window in batches of windows, with the same mean where windows overlap."""
        cfg = self.test_cfg
        size = inputs.shape[2:]
        crop = [min(side, length) for side, length in zip(cfg.crop_size, size, strict=True)]
        tops, lefts = (
            [min(start, length - side) for start in range(0, max(length - side + stride - 1, 0) + 1, stride)]
            for length, side, stride in zip(size, crop, cfg.stride, strict=True))
        if any(after - start > side for starts, side in zip((tops, lefts), crop) for start, after in pairwise(starts)):
            raise ValueError(f'test_cfg: windows of crop_size={tuple(cfg.crop_size)} every stride={tuple(cfg.stride)} '
                             'leave gaps. Fix: a stride of at most crop_size.')
        places = list(product(range(len(inputs)), tops, lefts))
        totals: dict[str, Tensor] = {}
        count = inputs.new_zeros(len(inputs), 1, *size)
        for first in range(0, len(places), window_batch):
            batch = places[first:first + window_batch]
            windows = torch.stack([inputs[n, :, y:y + crop[0], x:x + crop[1]] for n, y, x in batch])
            # a torch.Size, which mmseg's heads prefer to the padded size of the image
            metas = [dict(batch_img_metas[n], img_shape=windows.shape[2:]) for n, _, _ in batch]
            outputs = self.encode_decode(windows, metas)
            # open-cd's semantic change detectors return several maps
            for key, logits in (outputs if isinstance(outputs, dict) else {'': outputs}).items():
                if logits.shape[2:] != windows.shape[2:]:
                    raise ValueError(f'The detector gives logits of {tuple(logits.shape[2:])} for windows of '
                                     f'{tuple(windows.shape[2:])}. Fix: resize them to the images in its head.')
                if key not in totals:
                    totals[key] = logits.new_zeros(len(inputs), logits.shape[1], *size, dtype=torch.float32)
                for logit, (n, y, x) in zip(logits, batch):
                    totals[key][n, :, y:y + crop[0], x:x + crop[1]] += logit
            for n, y, x in batch:
                count[n, :, y:y + crop[0], x:x + crop[1]] += 1
        means = {key: total / count for key, total in totals.items()}
        return means.get('', means)

    return slide_inference
