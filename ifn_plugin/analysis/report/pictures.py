"""Pictures of the pairs of a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config

from ifn_plugin.analysis.pairs import load_pair
from ifn_plugin.analysis.report.runs import Run
from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.datasets import find_loaders
from ifn_plugin.models import IFNHead
from ifn_plugin.visualization import draw_panel
from ifn_plugin.visualization.pages import embed


def pictures(run: Run, number: int, device: str | None) -> Iterator[tuple[str, str]]:
    """Draw the worst and best pairs as panels, then IFN's side outputs for them.

    Args:
        run: Run with the pairs.
        number: Number of worst and of best pairs.
        device: Device to compute on; ``None`` for a GPU where there is one.

    Yields:
        Captions and image sources. Where the run's data set, weights or packages are missing, a single caption with
        the reason and an empty source.
    """
    ranked = [pair for pair in run.pairs if len(pair['files']) == 3 and all(pair['files'])]
    if not ranked or number < 1:
        return
    chosen = [('worst', pair) for pair in ranked[:number]]
    chosen += [('best', pair) for pair in ranked[number:][-number:][::-1]]
    try:
        yield from _draw(run, chosen, device)
    except Exception as error:  # tables and charts are useful without pictures, too
        yield f'No pictures: {type(error).__name__}: {" ".join(str(error).split())}', ''


def _draw(run: Run, chosen: Sequence[tuple[str, dict[str, Any]]], device: str | None) -> list[tuple[str, str]]:
    if run.checkpoint is None or run.config is None:
        weights = 'weights' if run.iteration is None else f'weights of iteration {run.iteration}'
        raise FileNotFoundError(f'{run.folder} lacks the {weights} or their configuration')
    cfg = Config.fromstring(run.config, '.py')
    cfg.model = cfg.model.get('module') or cfg.model  # a test with test-time augmentation wraps the model
    if run.protocol:
        cfg.model.test_cfg = (cfg.test_cfg.get('protocols') or {}).get(run.protocol) or dict(mode='whole')
    detector = ChangeDetector(cfg, run.checkpoint, device, batch_size=1)
    loaders = find_loaders(cfg)
    head: Any = detector.model.decode_head
    levels: list[np.ndarray] = []
    if isinstance(head, IFNHead) and cfg.model.test_cfg.get('mode', 'whole') == 'whole':  # each window has its own
        decoder: Any = head.levels
        for level in decoder:
            level.logit.register_forward_hook(
                lambda *arguments: levels.append(arguments[2][0, 0].float().sigmoid().cpu().numpy()))
    panels, sides = [], []
    for kind, pair in chosen:
        date1, date2, label = load_pair(pair['files'], *loaders)
        name = Path(pair['files'][0]).stem
        levels.clear()
        change = detector.predict(*pair['files'][:2])
        panels.append((f'{name}, among the {kind}: F1 {pair["F1"]:.1f}', embed(
            draw_panel(loaders[0].picture(date1), loaders[0].picture(date2), change.changed, label, max_side=288))))
        if levels:
            sides.append((f'{name}: probability at the five levels, coarse to fine, and label',
                          embed(_side_by_side([*levels, (label == 1).astype(np.float32)], 240))))
    return panels + sides


def _side_by_side(maps: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Colour probability maps, resize each to the same side (enlarging by nearest neighbour), and join them."""
    columns: list[np.ndarray] = []
    for probability in maps:
        shrinks = probability.shape[0] > side
        tile = cv2.resize((255 * probability).astype(np.uint8), (side, side),
                          interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        columns += [cv2.applyColorMap(tile, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.full((side, 4, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)
