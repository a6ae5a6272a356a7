"""Transforms of a single image, applied to pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Compose

from ifn_plugin.datasets.transforms.dates import get_dates
from ifn_plugin.datasets.transforms.randomness import get_global_states, reseed_generators, set_global_states
from ifn_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class EachDate(BaseTransform):
    """Apply transforms that are made for one image to each date of a pair.

    Generators that the transforms keep for themselves, such as albumentations', are seeded anew for each sample from
    numpy's global one, so that they follow from the run's seed.

    Required key: ``img``, the list of images. Whatever else the transforms change is taken from the first date.

    Args:
        transforms: Transforms for one image, mmseg's or mmcv's.
        share_random_params: Let both dates see the same random numbers, as geometry needs it: those of ``random``,
            ``numpy.random``, torch and OpenCV and of the transforms' own generators. Otherwise each date has its own.

    Raises:
        ValueError: If ``img`` is no list, or a transform keeps a generator that has no seed.
    """

    def __init__(self, transforms: Sequence[dict], share_random_params: bool = True) -> None:
        self.transforms = Compose(transforms)
        self.share_random_params = share_random_params

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Apply the transforms."""
        images = get_dates(results, self)
        states = get_global_states() if self.share_random_params else None
        outputs = []
        for image in images:
            if states is not None:
                set_global_states(states)
            reseed_generators(self.transforms)
            output = self.transforms(dict(results, img=image))
            if output is None:
                return None  # mmengine's sign to draw another sample
            outputs.append(output)
        return dict(outputs[0], img=[output['img'] for output in outputs])

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms}, share_random_params={self.share_random_params})'


@TRANSFORMS.register_module()
class RandomExchangeDates(BaseTransform):
    """Let the dates of a pair change places by chance: what has changed stays the same.

    Not for labels that tell one direction, such as new buildings but no demolished ones.

    Required key: ``img``, the list of two images.

    Args:
        prob: Probability of an exchange.

    Raises:
        ValueError: If ``prob`` is not from 0 to 1.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob={prob!r}, but a probability is from 0 to 1.')
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Exchange the dates, or leave them."""
        images = get_dates(results, self)
        if np.random.random() < self.prob:
            results['img'] = images[::-1]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'


@TRANSFORMS.register_module()
class ConcatDates(BaseTransform):
    """Make one image of a pair, date 1's channels first, for mmseg's ``PackSegInputs``.

    Required key: ``img``, the list of two images, (H, W, C); it becomes one, (H, W, 2·C).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Concatenate the dates."""
        results['img'] = np.concatenate(get_dates(results, self), axis=2)
        return results
