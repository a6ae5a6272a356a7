"""Search for duplicate pairs in a data set."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from ifn_plugin.analysis.dataset_check.records import Finding, Pair, Split

# A pair has two perceptual hashes of 64 bits. Only pairs that differ in few bits are compared by their thumbnails.
HASH_BITS, HASH_DISTANCE = 128, 12
# Lowest correlation of the thumbnails of duplicates, in each date
CORRELATION = 0.97
# Number of pairs compared with all others at once
BLOCK = 1000


def find_duplicates(splits: Sequence[Split]) -> Iterator[Finding]:
    """Find duplicate pairs, also rotated, mirrored or of different brightness.

    Args:
        splits: Splits that :func:`check_split` has read.

    Yields:
        Duplicates and leaks between splits.

    Raises:
        ImportError: If imagehash is not installed.
    """
    # a pair may belong to several splits
    places: dict[tuple[Path, ...], list[tuple[Split, Pair]]] = {}
    for split in splits:
        for pair in split.pairs:
            places.setdefault(tuple(path.resolve() for path in pair.files[:2]), []).append((split, pair))
    yield from _shared(list(places.values()))
    # uniform images look alike without being duplicates
    owned = [owners for owners in places.values() if all(np.ptp(image) for image in owners[0][1].thumbnails)]
    pairs = [owners[0][1] for owners in owned]
    for (left, right), way in sorted(_find_similar([pair.thumbnails for pair in pairs]).items()):
        one, other = ({split.part_of for split, _ in owned[place]} for place in (left, right))
        leak, why = _leak(one | other) if one != other else (False, '')
        names = dict.fromkeys(split.name for place in (left, right) for split, _ in owned[place])
        how = ', rotated or mirrored, ' if way else ' '
        yield Finding(' and '.join(names), leak, f'{pairs[left].files[0]} is{how}the same pair as '
                      f'{pairs[right].files[0]}' + (f': {why}.' if why else '.'),
                      [pairs[left].files, pairs[right].files])


def _shared(places: Sequence[Sequence[tuple[Split, Pair]]]) -> Iterator[Finding]:
    """Find pairs that several parts of the data set share."""
    shared = Counter(tuple(dict.fromkeys(split.part_of for split, _ in owners)) for owners in places)
    for parts, number in shared.items():
        if len(parts) > 1:
            leak, why = _leak(parts)
            yield Finding(' and '.join(parts), leak, f'pairs in common: {number}; {why}.')


def _find_similar(pairs: Sequence[np.ndarray]) -> dict[tuple[int, int], int]:
    """Find similar pairs of thumbnails.

    Args:
        pairs: Thumbnails of both dates, (2, 32, 32) each.

    Returns:
        For the indices of two similar pairs, the smaller first, the rotation or reflection of the first, 0 to 7.
    """
    import imagehash
    if not pairs:
        return {}
    # (8 orientations, pairs, dates, side, side)
    ways = [np.stack([_turn(pair, way) for pair in pairs]) for way in range(8)]
    # ±1, so that a matrix product counts the equal bits
    bits = [np.stack([
        np.concatenate([imagehash.phash(Image.fromarray(image)).hash.ravel() for image in pair]) for pair in way
    ]).astype(np.float32) * 2 - 1 for way in track(ways, 'Looking for duplicates')]
    found: dict[tuple[int, int], int] = {}
    for way, first in itertools.product(range(8), range(0, len(pairs), BLOCK)):
        distance = (HASH_BITS - bits[way][first:first + BLOCK] @ bits[0].T) / 2
        for left, right in zip(*np.nonzero(distance <= HASH_DISTANCE)):
            left += first
            if left < right and (left, right) not in found and _correlate(ways[way][left], ways[0][right]):
                found[int(left), int(right)] = way
    return found


def _leak(parts: Collection[str]) -> tuple[bool, str]:
    """Return whether it is an error that the parts of a data set share a pair, and why they should not."""
    if {Path(part).name for part in parts} <= {'val', 'test'}:
        return False, 'the checkpoint and the threshold are chosen on test data'
    return True, 'evaluation data must not be used for training'


def _turn(images: np.ndarray, way: int) -> np.ndarray:
    turned = np.rot90(images, way % 4, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if way >= 4 else turned)


def _correlate(first: np.ndarray, second: np.ndarray) -> bool:
    return all(np.corrcoef(one.ravel(), other.ravel())[0, 1] >= CORRELATION for one, other in zip(first, second))
