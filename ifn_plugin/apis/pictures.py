"""Prediction of changes in images without coordinates, written as PNG, and a page about them."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import dist
from PIL import Image
from rich.progress import track

from ifn_plugin.apis.inferencer import ChangeDetector, ChangeMap
from ifn_plugin.apis.page import keep_change, write_image_page
from ifn_plugin.apis.pairs import Pairs, stamp
from ifn_plugin.apis.running import Run, on_first, share
from ifn_plugin.datasets import LoadPair
from ifn_plugin.fileio import write_png
from ifn_plugin.visualization import draw_panel

# Pairs that are predicted and recorded together: so many batches
BATCHES = 8


def predict_images(detector: ChangeDetector, pairs: Pairs, run: Run, out: Path, outputs: Sequence[str]) -> float:
    """Predict the changes in pairs of images and write them; several processes share the pairs.

    Args:
        detector: The detector, with the same batch size in all processes.
        pairs: Both files of each pair, by the name of its results.
        run: The run, which knows what is finished.
        out: Output folder.
        outputs: Any of ``map``, ``probability`` and ``panel``, PNG files, and ``page``.

    Returns:
        The fraction of changed pixels.
    """
    names = list(pairs)
    size = BATCHES * detector.batch_size
    # batches are the same in any number of processes, since the last bits of a result depend on them
    parts = {first: names[first:first + size] for first in range(0, len(names), size)}
    # recorded under names that change with the files of their pairs
    groups = on_first(lambda: {f'{first}-{stamp(chain.from_iterable(pairs[name] for name in part))}': part
                               for first, part in parts.items()})
    kept = {name: run.folder / 'maps' / f'{number}.png' for number, name in enumerate(names)}
    for group in track(share(run.unfinished(groups)), 'Predicting', disable=not dist.is_main_process()):
        changed, pixels = [], []
        for change, name in zip(detector.predict_all(pairs[name] for name in groups[group]), groups[group]):
            changed.append(int(change.changed.sum()))
            pixels.append(change.changed.size)
            if 'page' in outputs:
                keep_change(change, kept[name])
            for kind, picture in _draw(change, pairs[name], outputs, detector.loader):
                write_png(Image.fromarray(picture), out / kind / f'{name}.png')
        run.finish(group, dict(changed=changed, pixels=pixels))
    dist.barrier()
    summaries: list[Any] = [run.recorded(group) for group in groups]
    changed, pixels = ([number for each in summaries for number in each[key]] for key in ('changed', 'pixels'))
    if 'page' in outputs:
        on_first(lambda: write_image_page(out / 'page' / 'index.html', pairs, list(kept.values()), changed,
                                          detector.threshold, detector.loader))
    return sum(changed) / sum(pixels)


def _draw(change: ChangeMap, pair: tuple[str, str], outputs: Sequence[str],
          loader: LoadPair) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the kind and the picture, RGB or grey, of each output for a pair."""
    if 'map' in outputs:
        yield 'map', change.changed.astype(np.uint8) * 255
    if 'probability' in outputs:
        yield 'probability', (change.probability * 255).round().astype(np.uint8)
    if 'panel' in outputs:
        date1, date2 = map(loader.picture, loader.transform(dict(img_path=list(pair)))['img'])
        yield 'panel', draw_panel(date1, date2, change.changed)
