"""Scores of objects, such as buildings: connected areas of change."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass
class ObjectCounts:
    """Counts of objects.

    Attributes:
        hit: Objects of the label at least half of whose pixels are detected.
        missed: The other objects of the label.
        right: Objects of the change map at least half of whose pixels are labelled "changed".
        false: The other objects of the change map.
    """

    hit: int = 0
    missed: int = 0
    right: int = 0
    false: int = 0

    def __add__(self, other: 'ObjectCounts') -> 'ObjectCounts':
        return ObjectCounts(self.hit + other.hit, self.missed + other.missed, self.right + other.right,
                            self.false + other.false)


def count_objects(changed: np.ndarray, label: np.ndarray) -> ObjectCounts:
    """Compare the objects of a change map with those of its label; pixels touch at sides and corners.

    Args:
        changed: (H, W), boolean.
        label: (H, W): 1 is "changed", and other values than 0 and 1 are ignored.
    """
    found = changed & (label <= 1)
    return ObjectCounts(*_covered(label == 1, found), *_covered(found, label == 1))


def _covered(objects: np.ndarray, cover: np.ndarray) -> tuple[int, int]:
    """Count the objects that are covered by half or more, and the others."""
    number, indices = cv2.connectedComponents(objects.astype(np.uint8), connectivity=8)
    areas = np.bincount(indices.ravel(), minlength=number)[1:]
    covered = np.bincount(indices[cover], minlength=number)[1:]
    hit = int((2 * covered >= areas).sum())
    return hit, number - 1 - hit
