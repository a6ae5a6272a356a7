"""Side outputs of IFN for the best and worst pairs of a run, from its network."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.utils import import_modules_from_strings

from ifn_plugin.analysis.pairs import load_pair
from ifn_plugin.analysis.report.runs import Evaluation, Run
from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.datasets import find_loaders
from ifn_plugin.evaluation.kept_maps import MAPS, level_index, map_name, read_map
from ifn_plugin.models import IFNHead
from ifn_plugin.visualization.embedded import embed


def side_outputs(run: Run, number: int, device: str | None) -> Iterator[tuple[str, str]]:
    """Draw the side outputs of the first evaluation that used entire images without test-time augmentation.

    Args:
        run: Run with the evaluations.
        number: Number of worst and of best pairs.
        device: Device to compute on; ``None`` for a GPU where there is one.

    Yields:
        Captions and image sources. Where the data set, the weights or packages are missing, a single caption with the
        reason and an empty source.
    """
    plain = [(evaluation, find_weights(run, evaluation)) for evaluation in run.evaluations if _is_plain(evaluation)]
    if not plain or number < 1:
        return
    evaluation, weights = next((found for found in plain if found[1]), plain[0])
    pairs = [pair for pair in evaluation.record.get('pairs', []) if pair['counts'][0] + pair['counts'][2]
             and len(pair['files']) == 3 and all(pair['files'])]
    ranked = sorted(pairs, key=lambda pair: pair['F1'])
    chosen = [('worst', pair) for pair in ranked[:number]]
    chosen += [('best', pair) for pair in ranked[number:][-number:][::-1]]
    try:
        yield from _draw(evaluation, weights, chosen, device)
    except Exception as error:  # the rest of the page is useful without them
        yield (f'{evaluation.name}: no side outputs: {type(error).__name__}: {" ".join(str(error).split())}', '')


def _is_plain(evaluation: Evaluation) -> bool:
    cfg = evaluation.config
    if evaluation.split != 'test' or cfg is None or evaluation.content.get('tta'):
        return False
    protocols = (cfg.get('test_cfg') or {}).get('protocols') or {}
    settings = protocols.get(evaluation.protocol) or cfg.model.get('test_cfg') or {}
    return settings.get('mode', 'whole') == 'whole'  # each window has its own


def find_weights(run: Run, evaluation: Evaluation) -> Path | None:
    """Find the weights of an evaluation: the tested file, also where its folder has moved, or one of the iteration."""
    name, epoch = evaluation.content.get('checkpoint'), evaluation.content.get('epoch')
    iteration = evaluation.content.get('iteration')
    candidates = [Path(name), run.folder / Path(name).name] if name else []
    if epoch is not None:
        candidates += [*run.folder.glob(f'best_*epoch_{epoch}.pth'), run.folder / f'epoch_{epoch}.pth']
    if iteration is not None:
        candidates += [*run.folder.glob(f'best_*iter_{iteration}.pth'), run.folder / f'iter_{iteration}.pth']
    return next((path for path in candidates if path.is_file()), None)


def _draw(evaluation: Evaluation, weights: Path | None, chosen: Sequence[tuple[str, dict[str, Any]]],
          device: str | None) -> Iterator[tuple[str, str]]:
    cfg = copy.deepcopy(evaluation.config)
    if cfg is None or weights is None:
        raise FileNotFoundError(f'no file of the weights ({evaluation.checkpoint})')
    import_modules_from_strings(**cfg.get('custom_imports') or dict(imports=None))
    cfg.model.test_cfg = dict(mode='whole')
    if 'IFNHead' not in str(cfg.model.get('decode_head')):
        return
    detector = ChangeDetector(cfg, weights, device, batch_size=1)
    head: Any = detector.model.decode_head
    if not isinstance(head, IFNHead):
        return
    loaders, levels = find_loaders(cfg), list[np.ndarray]()
    decoder: Any = head.levels
    for level in decoder:
        level.logit.register_forward_hook(
            lambda *arguments: levels.append(arguments[2][0, 0].float().sigmoid().cpu().numpy()))
    for kind, pair in chosen:
        label = load_pair(pair['files'], *loaders)[2]
        levels.clear()
        changed = detector.predict(*pair['files'][:2]).changed
        differ = _differing(evaluation, pair, changed, detector.threshold)
        note = f'; redrawn, {differ:.2%} of the pixels differ from the test' if differ > 0.001 else ''
        yield (f'{evaluation.name}: {Path(pair["files"][0]).stem}, {kind} of the pairs with change: probability at the '
               f'levels, coarse to fine, and label{note}',
               embed(_side_by_side([*levels, (label == 1).astype(np.float32)], 240)))


def _differing(evaluation: Evaluation, pair: dict[str, Any], changed: np.ndarray, threshold: float) -> float:
    """Return the share of the pixels that the test called otherwise; 0 if it has kept no map."""
    path = evaluation.folder / MAPS / evaluation.protocol / map_name(pair['files'])
    if not path.is_file():
        return 0.
    levels, _ = read_map(path)
    return float((changed != (levels > level_index(threshold))).mean()) if levels.shape == changed.shape else 1.


def _side_by_side(maps: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Colour probability maps, resize each to the same side (enlarging by nearest neighbour), and join them."""
    columns: list[np.ndarray] = []
    for probability in maps:
        shrinks = probability.shape[0] > side
        tile = cv2.resize((255 * probability).astype(np.uint8), (side, side),
                          interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        columns += [cv2.applyColorMap(tile, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.full((side, 4, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)
