"""Wrappers that apply single-image transforms to pairs, and transforms of the dates' order and layout."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Compose

from ifn_plugin.datasets.transforms.dates import get_dates
from ifn_plugin.datasets.transforms.randomness import get_global_states, reseed_generators, set_global_states
from ifn_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class EachDate(BaseTransform):
    """Apply single-image transforms to each date of a pair.

    Generators that the transforms own, such as albumentations', are reseeded for each sample from numpy's global one,
    so that they follow from the run's seed.

    Required key: ``img``, the list of images. Other keys that the transforms change are taken from the first date.

    Args:
        transforms: Transforms for one image, such as mmseg's or mmcv's.
        share_random_params: Use the same random numbers for both dates, as geometric transforms require: those of
            ``random``, ``numpy.random``, torch and OpenCV, and of the transforms' own generators. Otherwise each date
            draws its own.

    Raises:
        ValueError: If ``img`` is not a list, or a transform owns a generator that cannot be seeded.
    """

    def __init__(self, transforms: Sequence[dict], share_random_params: bool = True) -> None:
        self.transforms = Compose(transforms)
        self.share_random_params = share_random_params

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Apply the transforms."""
        images = get_dates(results, self)
        states = get_global_states() if self.share_random_params else None
        outputs = []
        for number, image in enumerate(images, 1):
            own = results if number == len(images) else _copy_values(results)
            if states is not None:
                set_global_states(states)
            reseed_generators(self.transforms)
            output = self.transforms(dict(own, img=image))
            if output is None:
                return None  # makes mmengine draw another sample
            if output['img'].ndim < image.ndim:  # OpenCV drops the axis of a single channel
                output['img'] = output['img'][..., None]
            outputs.append(output)
        return dict(outputs[0], img=[output['img'] for output in outputs])

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms}, share_random_params={self.share_random_params})'


def _copy_values(results: dict[str, Any]) -> dict[str, Any]:
    # a transform may change in place what belongs to both dates: the label, or the list of its names
    return {key: copy(value) if _is_changeable(value) else value for key, value in results.items()}


def _is_changeable(value: Any) -> bool:
    return value.flags.writeable if isinstance(value, np.ndarray) else isinstance(value, (dict, list))


@TRANSFORMS.register_module()
class RandomExchangeDates(BaseTransform):
    """Randomly swap the dates of a pair; the change label stays the same.

    Not for directional labels, such as those of new but not of demolished buildings.

    Required key: ``img``, the list of two images.

    Args:
        prob: Probability of a swap.

    Raises:
        ValueError: If ``prob`` is not between 0 and 1.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob={prob!r} is out of range. Fix: a probability from 0 to 1.')
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Swap the dates with probability ``prob``."""
        images = get_dates(results, self)
        if np.random.random() < self.prob:
            results['img'] = images[::-1]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'


@TRANSFORMS.register_module()
class ConcatDates(BaseTransform):
    """Concatenate the channels of a pair into one image, date 1's first, for mmseg's ``PackSegInputs``.

    Required key: ``img``, the list of two images, (H, W, C); it becomes one, (H, W, 2·C).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Concatenate the dates."""
        results['img'] = np.concatenate(get_dates(results, self), axis=2)
        return results
