"""Content of the viewer of pairs, which pages of reports and of predictions share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ifn_plugin.visualization.embedded import LIMIT, PairPictures, embed_pairs
from ifn_plugin.visualization.pages import pack


@dataclass
class ViewedModel:
    """Column of the viewer.

    Attributes:
        name: Title of the column.
        index: Index of the level at the model's threshold, from :func:`level_index`.
        threshold: This threshold.
        chosen: Threshold that validation chose, if any.
        chosen_index: Index of the level at that threshold.
        note: Remark below the title.
    """

    name: str
    index: int
    threshold: float
    chosen: float | None = None
    chosen_index: int | None = None
    note: str = ''


@dataclass
class ViewedMap:
    """Map of one model for a pair.

    Attributes:
        counts: True and false positives, false and true negatives at the threshold of the model; without a label,
            the numbers of changed and of unchanged pixels as false positives and true negatives.
        histogram: Number of pixels of each level, (2, 256), by label; ``None`` if they are unknown.
        objects: Objects hit, missed and false at the threshold of the model.
    """

    counts: Sequence[int]
    histogram: np.ndarray | None = None
    objects: Sequence[int] | None = None


@dataclass
class ViewedPair:
    """Row of the viewer.

    Attributes:
        name: Title of the row.
        maps: Map of each model, ``None`` where there is none.
        read: Function that reads the pictures.
        files: Files of the pair.
        note: Remark, such as why pictures are missing.
    """

    name: str
    maps: Sequence[ViewedMap | None]
    read: Callable[[], PairPictures]
    files: Sequence[str] = field(default_factory=list)
    note: str = ''


def viewer_content(models: Sequence[ViewedModel], pairs: Sequence[ViewedPair], thresholds: Sequence[float],
                   labelled: bool = True) -> dict[str, Any]:
    """Return what the template ``viewer.html.j2`` shows.

    Args:
        models: The columns.
        pairs: The rows.
        thresholds: Thresholds at which the levels of histograms and maps change.
        labelled: Whether the pairs have labels, and so scores.

    Returns:
        ``data``, for ``packed``, and ``pictures``, for JSON.
    """
    rows = [dict(name=pair.name, files=list(pair.files), note=pair.note, maps=[
        None if seen is None else dict(
            counts=list(seen.counts), histogram=None if seen.histogram is None else seen.histogram.ravel().tolist(),
            objects=seen.objects and list(seen.objects)) for seen in pair.maps]) for pair in pairs]
    data = dict(models=[vars(model) for model in models], pairs=rows, thresholds=[
        float(f'{threshold:.7g}') for threshold in thresholds], labelled=labelled)
    # what the data take is not left for the pictures: thousands of histograms take megabytes
    embedded = embed_pairs([pair.read for pair in pairs], LIMIT - len(pack(data)), [model.index for model in models])
    return dict(data=dict(data, side=embedded.side), pictures=embedded.pairs)
