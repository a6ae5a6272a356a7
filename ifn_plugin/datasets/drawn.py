"""Synthetic bi-temporal scenes for the demonstration and the tests: aerial views where buildings appear and vanish."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

# RGB
SOILS = ((150, 122, 92), (168, 146, 116), (132, 108, 84))

VEGETATION = ((74, 108, 52), (104, 122, 62), (150, 140, 88), (104, 96, 70))  # spring, summer, drought, winter

ROAD = (128, 126, 124)

ROOFS = ((178, 82, 60), (150, 66, 52), (204, 200, 194), (232, 230, 224), (84, 118, 168), (92, 92, 98))


@dataclass(frozen=True)
class _Wing:
    """Rotated rectangle of a roof: centre and half sides in pixels, angle in radians."""

    centre: np.ndarray
    half: tuple[float, float]
    angle: float

    def axes(self) -> np.ndarray:
        """Return the unit vectors along the long and the short side, (2, 2)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    def part(self, low: float = -1., high: float = 1.) -> np.ndarray:
        """Return the corners, (4, 2) as x and y, of the strip between two positions, -1 to 1, across the short side."""
        corners = np.array([[-1, low], [1, low], [1, high], [-1, high]]) * self.half
        return np.asarray(self.centre + corners @ self.axes())


@dataclass(frozen=True)
class _Building:
    wings: tuple[_Wing, ...]
    colour: np.ndarray
    height: float
    gabled: bool


@dataclass(frozen=True)
class _Ground:
    """Ground shared by both dates: maps (size, size), roads (size, size, 1), trees (K, 3) as x, y, radius, soils."""

    fields: np.ndarray
    texture: np.ndarray
    furrows: np.ndarray
    roads: np.ndarray
    trees: np.ndarray
    soils: np.ndarray


def _noise(rng: np.random.Generator, size: int, grain: float) -> np.ndarray:
    """Draw smooth noise, (size, size), of about zero mean and unit variance, with blobs ``grain`` pixels wide."""
    cells = max(2, round(size / grain)) + 1
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _mask(size: int, polygons: Sequence[np.ndarray], smooth: bool = True) -> np.ndarray:
    """Rasterize polygons, each (K, 2) as x and y in pixels, into their coverage, (size, size, 1) in [0, 1]."""
    mask = np.zeros((size, size), np.uint8)
    for polygon in polygons:
        # 4 fractional bits, since corners need not lie on the grid
        cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA if smooth else cv2.LINE_8, 4)
    return (mask / np.float32(255))[..., None]


def _draw_plan(rng: np.random.Generator, size: int, angle: float) -> _Ground:
    """Lay out fields, roads and trees along one direction, as in real settlements."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    count = 5 + rng.integers(4)
    spots = tuple(rng.integers(size, size=(2, count)))
    wobble = 4 * _noise(rng, size, 24)
    # the Manhattan distance in rotated coordinates gives fields with straight borders
    fields = np.argmin([abs(along - a + wobble) + abs(across - b) for a, b in zip(along[spots], across[spots])], axis=0)
    period, phase, depth = (rng.uniform(low, high, count)[fields] for low, high in ((4, 9), (0, 6), (0, 1)))
    furrows = depth * np.sin(2 * np.pi * np.where(fields % 2, along, across) / period + phase)
    roads = np.zeros((size, size), np.uint8)
    for turn in (0, np.pi / 2):
        ends = size * (rng.uniform(0.2, 0.8, 2) + np.outer((-2, 2), (np.cos(angle + turn), np.sin(angle + turn))))
        start, end = np.round(ends).astype(int).tolist()
        cv2.line(roads, start, end, 255, int(rng.integers(6, 11)), cv2.LINE_AA)
    trees = rng.uniform((0, 0, 2), (size, size, 5.5), (max(1, size * size // 1200), 3))
    texture = 0.5 * _noise(rng, size, 20) + 0.35 * _noise(rng, size, 6) + 0.35 * _noise(rng, size, 2)
    soils = np.array(SOILS)[rng.integers(len(SOILS), size=count)]
    return _Ground(fields, texture, furrows, (roads / np.float32(255))[..., None], trees, soils)


def _place_buildings(rng: np.random.Generator, size: int, angle: float, roads: np.ndarray) -> list[_Building]:
    """Place buildings clear of the roads and of one another."""
    taken = roads[..., 0] > 0
    wanted = max(3, round(rng.integers(12, 19) * size * size / 256**2))
    buildings: list[_Building] = []
    for _ in range(40 * wanted):
        if len(buildings) == wanted:
            break
        short, long = sorted((rng.uniform(9, 21), rng.uniform(7, 12)))
        turn = angle + rng.integers(2) * np.pi / 2 + rng.normal(0, 0.06)
        main = _Wing(rng.uniform(8, size - 8, 2), (long, short), turn)
        wings = [main]
        if rng.random() < 0.35:
            side = np.array([rng.choice((-1, 1)) * (main.half[0] - main.half[1] * 0.8), main.half[1]])
            half = (main.half[1] * 1.4, main.half[1] * 0.8)
            wings.append(_Wing(main.centre + side @ main.axes(), half, turn + np.pi / 2))
        footprint = _mask(size, [wing.part() for wing in wings], smooth=False)[..., 0] > 0
        if not footprint.any() or (taken & footprint).any():
            continue
        taken |= cv2.dilate(footprint.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
        colour = np.array(ROOFS)[rng.integers(len(ROOFS))] * rng.uniform(0.88, 1.1) + rng.normal(0, 6, 3)
        buildings.append(_Building(tuple(wings), colour, rng.uniform(4, 10), bool(rng.random() < 0.65)))
    return buildings


def _draw_date(rng: np.random.Generator, ground: _Ground, buildings: list[_Building], cover: np.ndarray) -> np.ndarray:
    """Draw one date with its own season, sun, haze and sensor; ``cover`` is the vegetation of each field, 0 to 1."""
    size = len(ground.fields)
    green = np.array(VEGETATION)[rng.integers(len(VEGETATION))] * rng.uniform(0.85, 1.15) + rng.normal(0, 5, 3)
    overgrown = np.clip(cover[ground.fields] + 0.25 * ground.texture, 0, 1)[..., None].astype(np.float32)
    image = overgrown * green + (1 - overgrown) * ground.soils[ground.fields] * rng.uniform(0.8, 1.15)
    image *= 1 + 0.12 * ground.texture[..., None] + 0.07 * ground.furrows[..., None]
    image += ground.roads * (ROAD * (1 + 0.05 * ground.texture[..., None]) - image)
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(azimuth), np.sin(azimuth)])
    stretch, darkness = rng.uniform(0.4, 1.3), rng.uniform(0.35, 0.6)
    wings = [(building, wing) for building in buildings for wing in building.wings]
    crowns = [np.array(cv2.ellipse2Poly((0, 0), (16, 16), 0, 0, 360, 30)) / 16 * r + (x, y) for x, y, r in ground.trees]
    shadows = [crown - sun * stretch * r for crown, (_, _, r) in zip(crowns, ground.trees)]
    for building, wing in wings:
        ends = np.concatenate((wing.part(), wing.part() - sun * stretch * building.height))
        shadows.append(cv2.convexHull(ends.astype(np.float32))[:, 0])
    image *= 1 - darkness * cv2.GaussianBlur(_mask(size, shadows), (0, 0), 0.7)[..., None]
    image += _mask(size, crowns) * (green * 0.72 * (1 + 0.2 * ground.texture[..., None]) - image)
    image += _mask(size, [crown * 0.5 + (crown.mean(0) + sun) * 0.5 for crown in crowns]) * 14
    for building, wing in wings:
        for low, high in ((-1, 0), (0, 1)) if building.gabled else ((-1, 1), (-0.78, 0.78)):
            # slopes that face the sun are brighter; a flat roof has a parapet along its long sides
            light = 1 + 0.2 * (low + high) * (wing.axes()[1] @ sun) if building.gabled else 0.85 + 0.15 * (high < 1)
            roof = building.colour * light * (1 + 0.03 * ground.texture[..., None])
            image += _mask(size, [wing.part(low, high)]) * (roof - image)
    image *= rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3) * (1 + 0.07 * _noise(rng, size, 0.6 * size)[..., None])
    image, haze = 255 * np.clip(image / 255, 0, 1)**rng.uniform(0.85, 1.2), rng.uniform(0, 0.22)
    image = (1 - haze) * image + haze * np.array((196, 202, 212))
    misregistration = np.column_stack((np.eye(2), rng.uniform(-0.5, 0.5, 2)))
    image = cv2.warpAffine(image.astype(np.float32), misregistration, (size, size), borderMode=cv2.BORDER_REPLICATE)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8)) + rng.normal(0, rng.uniform(1.5, 4), image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def draw_pair(rng: np.random.Generator, size: int = 256) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a pair in which buildings appear and vanish while light, season and fields change too.

    Args:
        rng: Source of all randomness.
        size: Side of the images in pixels.

    Returns:
        Date 1 and date 2, (size, size, 3), uint8, RGB, and the label, (size, size), uint8: 255 on the footprints of
        buildings that exist on one date only, 0 elsewhere.
    """
    angle = rng.uniform(0, np.pi)
    ground = _draw_plan(rng, size, angle)
    buildings = _place_buildings(rng, size, angle, ground.roads)
    # so that every pair has a change
    fates = rng.choice(3, len(buildings), p=(0.4, 0.36, 0.24))
    fates[:1] = 1
    stay, appear, vanish = ([b for b, fate in zip(buildings, fates) if fate == which] for which in range(3))
    before = rng.uniform(0, 1, len(ground.soils))
    after = np.where(rng.random(len(before)) < 0.7, rng.uniform(0, 1, len(before)), before)
    date1 = _draw_date(rng, ground, [*stay, *vanish], before)
    date2 = _draw_date(rng, ground, [*stay, *appear], after)
    changed = _mask(size, [wing.part() for building in (*appear, *vanish) for wing in building.wings], smooth=False)
    return date1, date2, (changed[..., 0] * 255).astype(np.uint8)


def write_dataset(folder: Path, counts: Mapping[str, int], size: int = 256, seed: int = 0) -> None:
    """Write synthetic pairs in LEVIR-CD's layout: ``folder/SPLIT/{A,B,label}/NAME.png``, with labels of 0 and 255.

    Args:
        folder: The output folder; it is created.
        counts: Number of pairs of each split. A pair depends only on the seed, its split and its number.
        size: Side of the images in pixels.
        seed: Random seed. The same seed gives the same pixels, as far as NumPy and OpenCV are stable across versions.

    Raises:
        OSError: If an image cannot be written.
    """
    for split, count in counts.items():
        for kind in ('A', 'B', 'label'):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            # default_rng builds a SeedSequence from these, so that a pair does not depend on the number of others
            date1, date2, label = draw_pair(np.random.default_rng([seed, zlib.crc32(split.encode()), number]), size)
            for kind, image in (('A', date1[..., ::-1]), ('B', date2[..., ::-1]), ('label', label)):
                (folder / split / kind / f'{number:04d}.png').write_bytes(cv2.imencode('.png', image)[1].tobytes())
