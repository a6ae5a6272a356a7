"""Classical baseline of change detection."""

import cv2
import numpy as np


def difference_otsu(date1: np.ndarray, date2: np.ndarray) -> np.ndarray:
    """Detect changes by change vector analysis: the length of the colour difference, thresholded by Otsu's method.

    Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979), https://doi.org/10.1109/TSMC.1979.4310076.

    Args:
        date1: (H, W, C), uint8.
        date2: Likewise.

    Returns:
        Change map, (H, W), uint8: 1 is "changed". Dates whose difference is uniform give no change.

    Raises:
        ValueError: If the dates differ in shape or are not (H, W, C).
    """
    if date1.shape != date2.shape or date1.ndim != 3:
        raise ValueError(f'Two images (H, W, C) of the same shape are needed, but got {date1.shape} and {date2.shape}.')
    length = np.linalg.norm(date1.astype(np.float32) - date2.astype(np.float32), axis=2)
    longest = length.max()
    if length.min() == longest:
        return np.zeros(length.shape, np.uint8)
    # OpenCV's histogram has 256 bins: stretch the range of this pair to fill them
    levels = np.round(length * (255 / longest)).astype(np.uint8)
    _, change_map = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(change_map, np.uint8)
