"""Validation of the views of test-time augmentation."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import TestTimeAug

from ifn_plugin.datasets.transforms.randomness import get_global_states, set_global_states

# Sides that need padding: first larger than most images, to reveal crops, then small, repeated for random transforms
_SIZES = ((1021, 1531), *[(101, 149)] * 6)

_FLIPS: dict[str, Any] = {'horizontal': np.s_[:, ::-1], 'vertical': np.s_[::-1], 'diagonal': np.s_[::-1, ::-1]}


def check_views(dataset: Any) -> None:
    """Reject test-time augmentation whose change maps would be merged without being transformed back.

    Detectors of mmseg and open-cd undo a view by the metadata of the last flip and the size of the image; rotation,
    crop, padding and a second flip are not recorded. A synthetic pair with a mark is passed through the steps.

    Args:
        dataset: A data set, also inside mmengine's wrappers. Without a ``TestTimeAug`` in its pipeline nothing happens.

    Raises:
        ValueError: If a view cannot be undone, or the first view is changed after its label was loaded; the message
            names the step.
    """
    for inner in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if inner is not None:
            check_views(inner)
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    for place, augmentation in enumerate(steps):
        if isinstance(augmentation, TestTimeAug):
            states = get_global_states()
            try:
                for number, view in enumerate(augmentation.subroutines):
                    for size in _SIZES:
                        _check_view([*steps[:place], *view.transforms], size, first=number == 0)
            finally:
                set_global_states(states)


def _check_view(steps: Sequence[Any], size: tuple[int, int], first: bool) -> None:
    mark = np.zeros(size, np.uint8)
    mark[size[0] // 10:size[0] // 2, size[1] // 8:3 * size[1] // 4] = 1
    images = [np.repeat(60 + 120 * mark[..., None], 3, axis=2) for _ in range(2)]
    results: Any = dict(img=images, img_shape=size, ori_shape=size, gt_seg_map=mark, seg_fields=['gt_seg_map'])
    labelled, before = False, mark
    for step in steps:
        labelled = labelled or any(name in type(step).__name__ for name in ('Label', 'Annotations'))
        try:
            results = step(results)
        except Exception:  # loaders find no file here; other steps that fail also fail with real data
            continue
        if not results:
            return
        name = ' '.join(str(step).split())
        moved, notes = _find_mark(results)
        if labelled and first and not _same(moved, before):
            raise ValueError(f'Test-time augmentation: {name} changes the first view after its label was loaded. '
                             'Fix: load the label inside TestTimeAug, after such steps.')
        turned = moved[_FLIPS[notes['flip_direction']]] if notes.get('flip') else moved
        if not _same(turned, mark):
            raise ValueError(f'Test-time augmentation: {name} gives a view that cannot be undone, so its change map '
                             'would be merged in the wrong place. Fix: use only resizing and one RandomFlip per view '
                             "(direction='horizontal', 'vertical' or, for both, 'diagonal').")
        if 'inputs' in results:
            return
        before = moved


def _find_mark(results: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Find the mark in the image of a view, whatever its colours, and the view's metadata."""
    if 'inputs' in results:  # packed
        channel, notes = results['inputs'][0].numpy(), results['data_samples'].metainfo
    else:
        image = results['img'][0] if isinstance(results['img'], list) else results['img']
        channel, notes = image[..., 0], results
    low, high = float(channel.min()), float(channel.max())
    return (channel > (low + high) / 2).astype(np.uint8), notes


def _same(mark: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether a mark is where it is expected, except for its edges, which resizing and blurring move."""
    height, width = expected.shape
    back = cv2.resize(mark, (width, height), interpolation=cv2.INTER_NEAREST)
    edges = 2 * sum(np.ptp(places) for places in np.nonzero(expected))
    tolerance = edges * (1 + max(height / mark.shape[0], width / mark.shape[1]))
    return bool(np.count_nonzero(back != expected) <= tolerance)
