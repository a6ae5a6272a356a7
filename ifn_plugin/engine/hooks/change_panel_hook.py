"""Hook that draws change panels."""

import logging
import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from ifn_plugin.datasets import LoadPair, find_loaders
from ifn_plugin.registry import HOOKS
from ifn_plugin.utils.samples import sample_files
from ifn_plugin.visualization import draw_panel


@HOOKS.register_module()
class ChangePanelHook(Hook):
    """Draw change panels during tests with the runner's visualizer.

    Set it as ``default_hooks.visualization``, so that ``--show-dir`` and ``--show`` of open-cd's and mmseg's test
    commands enable it.

    Args:
        draw: Whether to draw panels.
        interval: Interval between the batches to draw.
        max_side: Maximum height and width of an image in pixels; larger ones are shrunk.
        show: Whether to show the panels in a window, too.
        wait_time: Time for which a window stays open, in seconds.
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
        """Reset the names in use, and find the transform that loads the images."""
        self._names.clear()
        self.loader = find_loaders(runner.cfg)[0]
        if self.draw and get_world_size() > 1:
            print_log('Only the first process draws change panels, for its share of the pairs. Fix: test in one '
                      'process to draw all.', 'current', logging.WARNING)

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
            # OpenCV aborts the process at a name that is not valid UTF-8, for which Python uses surrogates
            stem = re.sub('[\ud800-\udfff]', '_', Path(sample_files(sample.img_path)[0]).stem)
            stem += f'_{protocol}' if protocol else ''
            # panels of images with the same name in two folders must not overwrite each other
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
