"""A web page about the changes in pairs of images: the viewer of reports, without labels."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from ifn_plugin.apis.inferencer import ChangeMap
from ifn_plugin.apis.pairs import Pairs
from ifn_plugin.datasets import LoadPair
from ifn_plugin.evaluation import LEVELS
from ifn_plugin.evaluation.kept_maps import count_levels, level_index, read_map, write_map
from ifn_plugin.visualization import write_page
from ifn_plugin.visualization.embedded import PairPictures
from ifn_plugin.visualization.viewer import ViewedMap, ViewedModel, ViewedPair, viewer_content


def keep_change(change: ChangeMap, path: Path) -> None:
    """Keep the probabilities of a pair until the page is written."""
    write_map(path, torch.from_numpy(change.probability), torch.zeros(change.probability.shape))


def write_image_page(path: Path, pairs: Pairs, maps: Sequence[Path], changed: Sequence[int], threshold: float,
                     loader: LoadPair) -> None:
    """Write a page about the changes in pairs of images.

    Args:
        path: HTML file to write.
        pairs: Both files of each pair, by its name.
        maps: The file of each pair that :func:`keep_change` has written.
        changed: Number of changed pixels of each pair.
        threshold: Threshold to begin with.
        loader: The transform that loads the images.

    Raises:
        OSError: If the file cannot be written.
    """
    rows, pixels = [], 0
    for (name, files), kept, found in zip(pairs.items(), maps, changed):
        histogram = count_levels(*read_map(kept))
        size = int(histogram.sum())
        pixels += size
        rows.append(ViewedPair(name, [ViewedMap((0, found, 0, size - found), histogram)],
                               partial(_read, kept, files, loader), files))
    model = ViewedModel('changes', level_index(threshold), threshold)
    about = f'{len(rows)} pairs, {sum(changed) / pixels:.2%} of the pixels changed.'
    write_page(path, 'predictions.html.j2', about=about, charts=[],
               viewer=viewer_content([model], rows, LEVELS.tolist(), labelled=False))


def _read(kept: Path, files: Sequence[str], loader: LoadPair) -> PairPictures:
    images = loader.transform(dict(img_path=list(files)))['img']
    return PairPictures(list(map(loader.picture, images)), None, [read_map(kept)[0]])
