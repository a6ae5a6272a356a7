"""Loading of a pair as arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ifn_plugin.datasets import LoadChangeLabel, LoadPair


def load_pair(files: Sequence[str | Path], load_dates: LoadPair,
              load_label: LoadChangeLabel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load both dates (H, W, C) and the label (H, W) of a pair from its three files."""
    date1, date2, label = map(str, files)
    pair = load_label(load_dates(dict(img_path=[date1, date2], seg_map_path=label, seg_fields=[])))
    first, second = pair['img']
    return first, second, pair['gt_seg_map']
