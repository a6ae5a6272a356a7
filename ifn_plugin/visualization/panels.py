"""Change panels: pictures for the visual inspection of change maps."""

from collections.abc import Mapping

import cv2
import numpy as np

# RGB colours that colour-blind readers can distinguish (Okabe and Ito, https://jfly.uni-koeln.de/color/)
HIT = (255, 255, 255)

FALSE_ALARM = (213, 94, 0)

MISS = (86, 180, 233)

IGNORED = (128, 128, 128)

TITLE_BACKGROUND = (32, 32, 32)


def draw_errors(change_map: np.ndarray, label: np.ndarray, ignore_index: int = 255) -> np.ndarray:
    """Colour a change map by its errors.

    Args:
        change_map: (H, W), 1 is "changed".
        label: (H, W), likewise.
        ignore_index: Label value of the pixels to ignore.

    Returns:
        (H, W, 3), RGB, uint8: true positives white, false positives vermilion, false negatives blue, ignored pixels
        grey, true negatives black.
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
    """Draw date 1, date 2, label, change map and errors side by side, with their names above.

    Args:
        date1: (H, W, 3), RGB, uint8.
        date2: Likewise.
        change_map: (H, W), 1 is "changed".
        label: (H, W), 0, 1 and 255 (ignored); without it, label and errors are left out.
        max_side: Maximum height and width of an image in pixels; larger ones are shrunk.

    Returns:
        The panel, (h, w, 3), RGB, uint8.
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
    """Draw pictures of the same size side by side, with their names above.

    Args:
        pictures: Pictures by name, each (H, W, 3), RGB, uint8.
        max_side: Maximum height and width of a picture in pixels; larger ones are shrunk.

    Returns:
        The row, (h, w, 3), RGB, uint8.
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
