"""Pictures embedded in pages: as large as the limit of the page's size lets them be."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

# Bytes of a page's pictures and data as text: a page of 15 MB passes most mail servers
LIMIT = 14_000_000
SIDES = (1024, 896, 768, 640, 576, 512, 448, 384, 320, 256, 192)


@dataclass
class PairPictures:
    """Pictures of a pair.

    Attributes:
        dates: Both dates, (H, W, 3), RGB, uint8; empty if they are unknown.
        label: (H, W), 0, 1 and 255 (ignored), uint8; ``None`` if it is unknown.
        maps: Of each model, the number of ``LEVELS`` below the probability, (H, W), uint8; ``None`` if it is unknown.
    """

    dates: Sequence[np.ndarray] = ()
    label: np.ndarray | None = None
    maps: Sequence[np.ndarray | None] = ()


@dataclass
class Embedded:
    """Pictures as data URLs, in the order of the pairs; a pair without pictures has an empty dictionary."""

    side: int
    pairs: list[dict[str, object]] = field(default_factory=list)


def embed_pairs(readers: Sequence[Callable[[], PairPictures]], limit: int = LIMIT,
                indices: Sequence[int] = ()) -> Embedded:
    """Embed the pictures of pairs.

    Args:
        readers: Functions that read the pictures of each pair.
        limit: Limit of the length of all data URLs. The pictures of all pairs are shrunk to the same side so as to stay
            below; if the smallest side is too large, the last pairs stay without pictures.
        indices: Of each model, the index of the level at its threshold, at which shrunk maps stay exact: elsewhere,
            they have only every eighth level, which makes them a quarter as large.

    Returns:
        The pictures, and the side in pixels to which larger ones are shrunk.
    """
    samples = [readers[index]() for index in sorted({len(readers) * part // 4 for part in range(4)})] if readers else []
    for side in SIDES:
        expected = sum(map(_length, (_embed(sample, side, indices) for sample in samples))) / max(1, len(samples))
        if expected * len(readers) <= 0.9 * limit:
            break
    result, length = Embedded(side), 0
    for reader in readers:
        pictures = _embed(reader(), side, indices) if length < limit else {}
        length += _length(pictures)
        result.pairs.append(pictures if length <= limit else {})
    return result


def _length(pictures: dict[str, object]) -> int:
    return len(str(list(pictures.values())))


def _embed(pair: PairPictures, side: int, indices: Sequence[int]) -> dict[str, object]:
    pictures: dict[str, object] = {}
    if len(pair.dates):
        pictures |= {f'date{number}': _encode(_shrink(date, side, Image.Resampling.LANCZOS), quality=60)
                     for number, date in enumerate(pair.dates, 1)}
    if pair.label is not None:
        pictures['label'] = _embed_values(pair.label, side)
    pictures['maps'] = [None if levels is None else _embed_values(_coarse(levels, index, side), side)
                        for levels, index in zip(pair.maps, [*indices] or [0] * len(pair.maps))]
    return pictures


def _coarse(levels: np.ndarray, index: int, side: int) -> np.ndarray:
    if max(levels.shape) <= side:
        return levels
    steps = (levels.astype(np.int16) - index - 1) // 8 * 8 + index + 1
    return np.clip(steps, 0, 255).astype(np.uint8)


def _embed_values(values: np.ndarray, side: int) -> str:
    # values of the map itself, not means of neighbours
    return _encode(_shrink(values, side, Image.Resampling.NEAREST), lossless=True, quality=50, method=2)


def _shrink(array: np.ndarray, side: int, resampling: Image.Resampling) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(array))
    image.thumbnail((side, side), resampling)
    return image.convert('RGB')


def embed(picture: np.ndarray) -> str:
    """Encode an RGB picture, (H, W, 3), uint8, as a data URL for an HTML image."""
    return _encode(Image.fromarray(picture), quality=90)


def _encode(image: Image.Image, **settings: object) -> str:
    stream = io.BytesIO()
    image.save(stream, 'WEBP', **settings)
    return f'data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}'
