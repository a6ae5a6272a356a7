"""Change panels: pictures in which a person can judge a change map."""

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from .data import LoadPair, find_loaders
from .registry import HOOKS
from .training import list_files

# RGB, distinguishable for colour-blind readers too (Okabe and Ito, https://jfly.uni-koeln.de/color/)
HIT = (255, 255, 255)
FALSE_ALARM = (213, 94, 0)
MISS = (86, 180, 233)
IGNORED = (128, 128, 128)
TITLE_BACKGROUND = (32, 32, 32)


def draw_errors(change_map: np.ndarray, label: np.ndarray, ignore_index: int = 255) -> np.ndarray:
    """Colour a change map by what is right and wrong in it.

    Args:
        change_map: (H, W), 1 is "changed".
        label: (H, W), likewise.
        ignore_index: The label's value for pixels that do not count.

    Returns:
        (H, W, 3), RGB: hits white, false alarms vermilion, misses blue, ignored pixels grey, the rest black.
    """
    errors = np.zeros((*label.shape, 3), np.uint8)
    found, changed = change_map == 1, label == 1
    errors[found & changed] = HIT
    errors[found & ~changed] = FALSE_ALARM
    errors[~found & changed] = MISS
    errors[label == ignore_index] = IGNORED
    return errors


def draw_panel(date1: np.ndarray,
               date2: np.ndarray,
               change_map: np.ndarray,
               label: np.ndarray | None = None,
               max_side: int = 512) -> np.ndarray:
    """Draw date 1, date 2, label, change map and errors side by side under their names.

    Args:
        date1: (H, W, 3), RGB, uint8.
        date2: Likewise.
        change_map: (H, W), 1 is "changed".
        label: (H, W), 0, 1 and 255 (ignored); without it, label and errors are left out.
        max_side: Larger images are shrunk to this, in pixels.

    Returns:
        The panel, RGB, uint8.
    """
    pictures = {'date 1': date1, 'date 2': date2}
    if label is not None:
        pictures['label'] = draw_mask(label)
    pictures['change map'] = draw_mask(change_map)
    if label is not None:
        pictures['errors'] = draw_errors(change_map, label)
    return draw_row(pictures, max_side)


def draw_mask(mask: np.ndarray) -> np.ndarray:
    """Draw a label or change map, (H, W) of 0, 1 and 255, in black, white and grey: (H, W, 3), RGB, uint8."""
    grey = np.where(mask == 255, IGNORED[0], (mask == 1) * 255)
    return grey.astype(np.uint8)[..., None].repeat(3, axis=2)


def draw_row(pictures: Mapping[str, np.ndarray], max_side: int = 512) -> np.ndarray:
    """Draw pictures of one size side by side under their names.

    Args:
        pictures: Each (H, W, 3), RGB, uint8, by its name.
        max_side: Larger ones are shrunk to this, in pixels.

    Returns:
        The row, RGB, uint8.
    """
    size = next(iter(pictures.values())).shape[:2]
    scale = min(1., max_side / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    gap, band = 4, 24
    columns = []
    for name, picture in pictures.items():
        tile = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        cell = np.full((height + band, max(width, 110) + gap, 3), 255, np.uint8)
        cell[:band] = TITLE_BACKGROUND
        cell[band:, :width] = tile
        cv2.putText(cell, name, (2, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        if name == 'errors':
            x = 60
            legend = (('hit', HIT), ('false', FALSE_ALARM), ('miss', MISS)) if width >= 200 else ()
            for word, colour in legend:
                cv2.putText(cell, word, (x, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
                x += 12 * len(word)
        columns.append(cell)
    return np.concatenate(columns, axis=1)


@HOOKS.register_module()
class ChangePanelHook(Hook):
    """Write change panels while testing, on request, through the runner's visualizer.

    It stands at ``default_hooks.visualization``, where the test commands of open-cd and mmseg turn it on by
    ``--show-dir`` or ``--show``.

    Args:
        draw: Whether to do anything.
        interval: Draw every so many batches.
        max_side: Larger images are shrunk to this, in pixels.
        show: Show the panels in a window too.
        wait_time: Seconds for which a window stays.
    """

    def __init__(self,
                 draw: bool = False,
                 interval: int = 1,
                 max_side: int = 512,
                 show: bool = False,
                 wait_time: float = 0.) -> None:
        self.draw = draw
        self.interval = interval
        self.max_side = max_side
        self.show = show
        self.wait_time = wait_time
        self.loader = LoadPair()
        self._names: set[str] = set()

    def before_test(self, runner: Runner) -> None:
        """Start the count of equal names anew, and see how the images are loaded."""
        self._names.clear()
        self.loader = find_loaders(runner.cfg)[0]
        if self.draw and get_world_size() > 1:
            print_log('Change panels are drawn by the first process, for its share of the pairs. Test in one process '
                      'to draw all.', 'current', logging.WARNING)

    @master_only
    def after_test_iter(self,
                        runner: Runner,
                        batch_idx: int,
                        data_batch: Any = None,
                        outputs: Sequence[Any] | None = None) -> None:
        """Draw a panel for each sample of the batch."""
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        visualizer: Visualizer = runner.visualizer
        protocol = getattr(runner.test_loop, 'protocol', '')
        for sample in outputs or ():
            # OpenCV ends the process at a name that is no UTF-8, which Python spells with surrogates
            stem = re.sub('[\ud800-\udfff]', '_', Path(list_files(sample.img_path)[0]).stem)
            stem += f'_{protocol}' if protocol else ''
            # images of the same name in two folders must not overwrite each other
            name = next(name for name in chain((stem, ), (f'{stem}_{i}' for i in count(2))) if name not in self._names)
            self._names.add(name)
            panel = self._panel(sample)
            visualizer.add_image(name, panel, step=0)
            if self.show:
                visualizer.show(panel, win_name=name, wait_time=self.wait_time)

    def _panel(self, sample: Any) -> np.ndarray:
        images = self.loader.transform(dict(img_path=sample.img_path))['img']
        label = sample.gt_sem_seg.data if 'gt_sem_seg' in sample else None
        date1, date2 = map(self.loader.picture, images)
        change_map = _as_array(sample.pred_sem_seg.data)
        return draw_panel(date1, date2, change_map, None if label is None else _as_array(label), self.max_side)


def _as_array(mask: torch.Tensor) -> np.ndarray:
    array: np.ndarray = mask.squeeze(0).cpu().numpy()
    return array
