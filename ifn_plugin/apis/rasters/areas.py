"""Connected changed areas of rasters of any size, traced block by block."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from rasterio.windows import Window


@dataclass
class Area:
    """Connected changed pixels, those that touch at a corner included.

    Attributes:
        parts: Their outlines within each block, in pixels.
        blocks: Number of blocks over which they extend.
        pixels: Number of pixels.
        total: Sum of their stored probabilities.
        maximum: Highest of these.
    """

    parts: list[Any] = field(default_factory=list)
    blocks: int = 1
    pixels: int = 0
    total: float = 0.
    maximum: int = 0

    def add(self, other: 'Area') -> None:
        self.parts += other.parts
        self.blocks += other.blocks
        self.pixels += other.pixels
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def outline(self) -> Any:
        """Return the outline, a valid polygon or multipolygon, in pixels."""
        if self.blocks == 1:
            return self.parts[0] if len(self.parts) == 1 else shapely.multipolygons(self.parts)
        # where blocks met, points remain on straight lines; pixels have integer coordinates, so that this is exact
        return shapely.simplify(shapely.union_all(self.parts), 0)


class _OpenAreas:
    """Areas that reach blocks to come, joined where they touch."""

    def __init__(self) -> None:
        self.areas: dict[int, Area] = {}
        self.parents: dict[int, int] = {}

    def find(self, number: int) -> int:
        while (parent := self.parents.get(number, number)) != number:
            self.parents[number] = number = self.parents.get(parent, parent)
        return number

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the areas on two sides of a border, whose pixels, (n + 2) and (n), have their numbers or 0."""
        for shift in range(3):  # straight and across corners
            pairs = np.stack([first[shift:shift + len(second)], second], axis=1)
            for numbers in np.unique(pairs[(pairs > 0).all(axis=1)], axis=0).tolist():
                old, new = sorted(map(self.find, numbers))
                if old != new:
                    self.parents[new] = old
                    self.areas[old].add(self.areas.pop(new))

    def finish(self, border: np.ndarray) -> Iterator[Area]:
        """Take out the areas that do not reach a border; number the others there by one number each, in place."""
        numbers, places = np.unique(border, return_inverse=True)
        numbers = np.array([self.find(number) for number in numbers.tolist()])
        border[:] = numbers[places]
        for number in self.areas.keys() - set(numbers.tolist()):
            yield self.areas.pop(number)
        self.parents.clear()


def find_areas(changes: Any, probabilities: Any, tolerance: float = 0., side: int = 2048) -> Iterator[Area]:
    """Find the connected changed areas of a map in memory that does not depend on its size.

    Args:
        changes: The change map, opened by rasterio.
        probabilities: The probabilities, likewise.
        tolerance: Simplification of the outlines in pixels: the square root of the area of the triangles that are cut
            off. Areas stay valid and apart; where two blocks meet, the outline keeps a point.
        side: Height and width of the blocks in pixels.

    Yields:
        The areas, those first that end first.
    """
    above = np.zeros(changes.width + 2, np.int64)
    open_areas, used = _OpenAreas(), 0
    for top in range(0, changes.height, side):
        left, border = None, np.zeros_like(above)
        for column in range(0, changes.width, side):
            window = Window(column, top, min(side, changes.width - column), min(side, changes.height - top))
            changed = (changes.read(1, window=window) == 1).astype(np.uint8)
            labels = cv2.connectedComponents(changed, connectivity=8)[1]
            areas = _trace(labels, probabilities.read(1, window=window), (column, top), tolerance)
            faces = [labels[0]] * (top > 0) + [labels[-1]] * (top + side < changes.height)
            faces += [labels[:, 0]] * (column > 0) + [labels[:, -1]] * (column + side < changes.width)
            reaching = set(np.unique(np.concatenate(faces)).tolist()) if faces else set()
            numbers = np.zeros(len(areas) + 1, np.int64)  # of areas that reach a border, different in every block
            for label, area in areas.items():
                if label in reaching:
                    used += 1
                    numbers[label] = used
                    open_areas.areas[used] = area
                else:
                    yield area
            open_areas.join(above[column:column + window.width + 2], numbers[labels[0]])
            if left is not None:
                open_areas.join(np.pad(left, 1), numbers[labels[:, 0]])
            left = numbers[labels[:, -1]]
            border[column + 1:column + 1 + window.width] = numbers[labels[-1]]
        above = border if top + side < changes.height else np.zeros_like(border)
        yield from open_areas.finish(above)


def _trace(labels: np.ndarray, probability: np.ndarray, origin: tuple[int, int], tolerance: float) -> dict[int, Area]:
    """Trace the areas of a block by their labels."""
    areas: dict[int, Area] = defaultdict(Area)
    changed = labels > 0
    inside, values = labels[changed], probability[changed]
    pixels, totals = np.bincount(inside), np.bincount(inside, values)
    maxima = np.zeros(len(pixels), np.uint8)
    np.maximum.at(maxima, inside, values)
    # with what is between the areas, all outlines are shared by two polygons, and simplified without crossings
    mask = None if tolerance and changed.any() else changed
    shapes = list(rasterio.features.shapes(labels, mask, connectivity=4))
    polygons = np.array([shapely.geometry.shape(shape) for shape, _ in shapes], object)
    if tolerance and len(polygons):
        polygons = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
    polygons = shapely.transform(polygons, lambda points: points + origin)
    for polygon, (_, label) in zip(polygons, shapes):
        if label:
            areas[int(label)].parts.append(polygon)
    for label, area in areas.items():
        area.pixels, area.total, area.maximum = int(pixels[label]), float(totals[label]), int(maxima[label])
    return areas
