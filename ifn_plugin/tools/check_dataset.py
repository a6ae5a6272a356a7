"""Look through a data set before hours are spent on it: ``python -m ifn_plugin.tools.check_dataset CONFIG|FOLDER``.

FOLDER has splits in LEVIR-CD's layout, ``{train,val,test}/{A,B,label}`` or others, or is one; of a configuration, the
folders of its data sets are taken. Every file is read. What is found wrong is said with the file's name: pairs that are
not complete, damaged files, sizes and label values that do not fit, the same pair twice or in two splits, also turned,
mirrored or brighter. The exit status is 1 if there are errors.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS
from PIL import Image
from rich.progress import track

from ifn_plugin.configurations import is_type, type_name
from ifn_plugin.data import LoadChangeLabel, LoadPair, find_loaders, list_images
from ifn_plugin.data.dataset import LEVIRCDDataset, find_beyond, find_equal, read_names, walk
from ifn_plugin.data.decoding import read_indices
from ifn_plugin.data.transforms import list_dataset_settings
from ifn_plugin.tools._common import read_config, resolve_config
from ifn_plugin.tools._pages import embed, load_pair, readable, write_page
from ifn_plugin.visualization import draw_mask, draw_row

KINDS = dict(img_path_from='A', img_path_to='B', seg_map_path='label')
# Of two perceptual hashes of 64 bits each, the bits that may differ for two pairs to be compared closely
HASH_BITS, HASH_DISTANCE = 128, 12
# Then their thumbnails have to correlate so well, in both dates
CORRELATION = 0.97
THUMBNAIL = 32


@dataclass
class Finding:
    """Something wrong.

    Attributes:
        split: Where.
        error: Whether training on it would fail or mislead; otherwise it is only worth knowing.
        message: What.
        pairs: The files of the pairs concerned, for pictures.
    """

    split: str
    error: bool
    message: str
    pairs: list[tuple[Path, Path, Path]] = field(default_factory=list)


@dataclass
class Pair:
    """What is known of a pair that could be read.

    Attributes:
        files: Both dates and the label.
        size: Height and width.
        changed: Share of the labelled pixels that are changed.
        labelled: Number of these.
        values: Values in the label's file.
        moments: Mean of each channel over both dates' labelled pixels, and mean of its square, (2, C).
        thumbnails: Both dates, small and grey, (2, 32, 32).
        inverted: Whether the label has a colour table in which 0 is lighter than the rest.
    """

    files: tuple[Path, Path, Path]
    size: tuple[int, int]
    changed: float
    labelled: int
    values: tuple[int, ...]
    moments: np.ndarray
    thumbnails: np.ndarray
    inverted: bool = False


@dataclass
class Split:
    """A split.

    Attributes:
        name: Its name.
        folders: Of both dates and the label.
        part_of: What it is used for; several data sets together may be what is trained on.
        suffixes: How the names of both dates and of the labels end; ``None`` for any.
        ann_file: A list of the pairs that belong to it; ``None`` for all.
        indices: Which of these, as mmengine's data sets have it; ``None`` for all.
        loaders: Of the dates and of the label.
        stock_loader: What loads the labels in the configuration, if it is another project's.
        pairs: What could be read.
        files: Number of files in each folder.
    """

    name: str
    folders: tuple[Path, Path, Path]
    part_of: str
    suffixes: tuple[str | None, str | None, str | None] = (None, None, None)
    ann_file: Path | None = None
    indices: int | Sequence[int] | None = None
    loaders: tuple[LoadPair, LoadChangeLabel] = field(default_factory=lambda: (LoadPair(), LoadChangeLabel()))
    stock_loader: str = ''
    pairs: list[Pair] = field(default_factory=list)
    files: tuple[int, ...] = (0, 0, 0)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Look through a data set')
    parser.add_argument('dataset', help="folder in LEVIR-CD's layout, or a configuration")
    parser.add_argument('--out', type=Path, metavar='FILE.html', help='write a page with pictures')
    parser.add_argument('--pictures', type=int, default=4, help='pairs of each split to show there; default: 4')
    args = parser.parse_args(argv)
    if args.out is not None and args.out.suffix != '.html':
        parser.error(f'--out {args.out}: name a file that ends in .html')
    if args.pictures < 0:
        parser.error(f'--pictures {args.pictures}: use 0 for none, or a number of pairs')
    return args


def find_splits(dataset: str) -> list[Split]:
    """The splits of a folder or a configuration.

    Raises:
        SystemExit: If there are none.
    """
    folder = Path(dataset)
    if folder.is_dir():
        parents = sorted({path.parent for path in walk(folder) if path.name in KINDS.values() and path.is_dir()})
        splits = [Split(name, _three(folder / name / kind for kind in KINDS.values()), name)
                  for name in (str(parent.relative_to(folder)) for parent in parents)]
    else:
        splits = list(_configured_splits(resolve_config(dataset)))
    if not splits:
        raise SystemExit(f'{dataset}: no folder A, B or label in it. For other names, check a configuration whose '
                         'data_prefix has them.')
    return splits


def _three(items: Any) -> tuple[Path, Path, Path]:
    first, second, third = items
    return first, second, third


def _configured_splits(path: Path) -> Iterator[Split]:
    cfg = read_config(path)
    for name in ('train', 'val', 'test'):
        datasets = list_dataset_settings(cfg, name)
        for number, settings in enumerate(datasets, 1):
            ours = is_type(settings.get('type'), DATASETS, LEVIRCDDataset)
            prefixes = (KINDS if ours else {}) | (settings.get('data_prefix') or {})
            steps = [type_name(step.get('type')) for step in settings.get('pipeline') or []]
            stock = next((step for step in steps if step.endswith('LoadAnnotations')), '')
            if prefixes.keys() >= KINDS.keys():
                root = Path(settings.get('data_root') or '')
                backend = (settings.get('backend_args') or {}).get('backend', 'local')
                for folder in (settings.get('data_root') or '', *(prefixes[kind] for kind in KINDS)):
                    if '://' in str(folder) or backend != 'local':
                        raise SystemExit(f'{folder}: check_dataset reads files on disk. Fix: check a copy that lies '
                                         'there.')
                yield Split(
                    f'{name} {number}' if len(datasets) > 1 else name,
                    _three(root / prefixes[kind] for kind in KINDS),
                    part_of=name,
                    suffixes=(settings.get('img_suffix_from') or settings.get('img_suffix'),
                              settings.get('img_suffix_to') or settings.get('img_suffix'),
                              settings.get('seg_map_suffix')),
                    ann_file=root / settings.ann_file if settings.get('ann_file') else None,
                    indices=settings.get('indices'),
                    loaders=find_loaders(cfg, settings),
                    stock_loader=stock)


def check_split(split: Split) -> Iterator[Finding]:
    """Read a split, and say what is wrong with it; ``pairs`` and ``files`` of the split are filled in."""
    kinds: list[dict[str, Path]] = []
    for folder, suffix in zip(split.folders, split.suffixes):
        if not folder.is_dir():
            yield Finding(split.name, True, f'{folder}: no such folder.')
            return
        try:
            kinds.append(list_images(folder, suffix))
        except ValueError as error:
            yield Finding(split.name, True, str(error))
            return
    split.files = tuple(map(len, kinds))
    everything = sorted(set().union(*kinds))
    if split.ann_file is not None:
        try:
            everything = read_names(split.ann_file, kinds[0], split.suffixes[0])
        except (OSError, ValueError) as error:
            yield Finding(split.name, True, f'{split.ann_file}, the list of its pairs, cannot be read: {error}')
            return
    if not everything:
        yield Finding(split.name, True, f'{split.folders[0].parent}: no image in it.')
    for name in everything:
        missing = [f'{folder / name}{suffix or ".*"}'
                   for folder, files, suffix in zip(split.folders, kinds, split.suffixes) if name not in files]
        if missing:
            yield Finding(split.name, True, f'not complete, missing: {", ".join(missing)}')
    complete = [name for name in everything if all(name in files for files in kinds)]
    equal = find_equal(complete, split.folders, kinds)
    if equal:
        yield Finding(split.name, True, equal)
    beyond = find_beyond(split.indices, len(everything))
    if beyond:
        yield Finding(split.name, True, f'indices takes pairs {beyond}, but {split.folders[0]} has {len(everything)}, '
                      'counted from 0: change indices, or set it to None to take all.')
    if isinstance(split.indices, int):
        everything = everything[:split.indices] if split.indices >= 0 else everything[split.indices:]
    elif split.indices is not None:
        everything = [everything[index] for index in split.indices if -len(everything) <= index < len(everything)]
    trios = [_three(files[name] for files in kinds) for name in everything if all(name in files for files in kinds)]
    with ThreadPoolExecutor() as pool:
        for result in track(pool.map(partial(_read, split.loaders), trios), f'Reading {split.name}', len(trios)):
            if isinstance(result, Pair):
                split.pairs.append(result)
                yield from _check_pair(split.name, result)
            else:
                yield Finding(split.name, True, result)
    # packed labels have but one, in which the loader has put 255 for what is ignored
    conventions = Counter(max(set(pair.values) - {0}, default=0) for pair in split.pairs
                          if pair.files[2].suffix != '.npy')
    if len(conventions.keys() & {1, 255}) == 2 and split.loaders[1].threshold is split.loaders[1].changed is None:
        yield Finding(split.name, True, f'"changed" is 255 in {conventions[255]} labels and 1 in {conventions[1]}: if '
                      '255 means "ignored" anywhere, say so by LoadChangeLabel(changed=1).')
    inverted = [pair.files for pair in split.pairs if pair.inverted]
    if inverted:
        yield Finding(split.name, False, f'{len(inverted)} labels, such as {inverted[0][2]}, have a colour table that '
                      'shows 0 lighter than the rest: their values were taken, 0 for unchanged. If that is wrong, save '
                      'them without a colour table.', inverted[:1])
    # open-cd's takes all below 128 for unchanged, mmseg's 255 for ignored
    unread = 1 if split.stock_loader.endswith('MultiImgLoadAnnotations') else 255
    if split.stock_loader and conventions[unread]:
        yield Finding(split.name, True, f'"changed" is {unread} in {conventions[unread]} labels, which '
                      f'{split.stock_loader} of the configuration does not read as changed: put '
                      'ifn_plugin.LoadChangeLabel in its place.')
    if split.pairs and not any(pair.changed for pair in split.pairs):
        yield Finding(split.name, True, 'no label has a changed pixel.')


def _read(loaders: tuple[LoadPair, LoadChangeLabel], trio: tuple[Path, Path, Path]) -> Pair | str:
    try:
        *dates, label = load_pair(trio, *loaders)
    except (OSError, ValueError) as error:
        return str(error)
    # values as they are in the file, which the loader has read without complaint
    # (not by imread, which on Windows knows ASCII names only)
    raw: Any = label
    inverted = False
    if trio[2].suffix != '.npy':
        content = trio[2].read_bytes()
        raw, inverted = read_indices(content) or (
            cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), False)
    values = tuple(np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist())
    counted = label != 255
    pictures = (np.ascontiguousarray(loaders[0].picture(date)) for date in dates)
    thumbnails = [cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (THUMBNAIL, THUMBNAIL),
                             interpolation=cv2.INTER_AREA) for picture in pictures]
    labelled = int(counted.sum())
    levels = np.concatenate([date[counted] for date in dates]).astype(np.float32)
    # in double precision: numpy adds up long columns row by row
    moments = np.stack([power.mean(axis=0, dtype=np.float64) for power in (levels, np.square(levels))]
                       ) if labelled else np.zeros((2, 1))
    return Pair(trio, label.shape, float((label == 1).sum() / max(1, labelled)), labelled, values,
                moments[:, ::-1] if loaders[0].bgr else moments, np.stack(thumbnails), inverted)


def _check_pair(split: str, pair: Pair) -> Iterator[Finding]:
    for path, thumbnail in zip(pair.files, pair.thumbnails):
        if np.ptp(thumbnail) == 0:
            yield Finding(split, False, f'{path} has one grey value all over.', [pair.files])
    if np.array_equal(*pair.thumbnails) and pair.changed:
        yield Finding(split, True, f'{pair.files[0]} and {pair.files[1]} are the same image, but the label has '
                      'changes.', [pair.files])


def find_duplicates(splits: Sequence[Split]) -> Iterator[Finding]:
    """Pairs that are there twice, turned, mirrored or in other light too."""
    import imagehash

    # one and the same pair may belong to several
    places: dict[tuple[Path, ...], list[tuple[Split, Pair]]] = {}
    for split in splits:
        for pair in split.pairs:
            places.setdefault(tuple(path.resolve() for path in pair.files[:2]), []).append((split, pair))
    shared = Counter(tuple(dict.fromkeys(split.part_of for split, _ in owners)) for owners in places.values())
    for parts, number in shared.items():
        if len(parts) > 1:
            leak, why = _leak(parts)
            yield Finding(' and '.join(parts), leak, f'pairs that are in each of them: {number}; {why}.')
    # blank ones are all alike, and say nothing
    owned = [owners for owners in places.values() if all(np.ptp(image) for image in owners[0][1].thumbnails)]
    if not owned:
        return
    pairs = [owners[0][1] for owners in owned]
    # (8 ways to lie, pairs, dates, side, side)
    ways = [np.stack([_turn(pair.thumbnails, way) for pair in pairs]) for way in range(8)]
    # ±1, so that a product counts the bits that agree
    bits = [np.stack([
        np.concatenate([imagehash.phash(Image.fromarray(image)).hash.ravel() for image in pair]) for pair in way
    ]).astype(np.float32) * 2 - 1 for way in track(ways, 'Looking for duplicates')]
    found: dict[tuple[int, int], int] = {}
    step = 1000
    for way, first in itertools.product(range(8), range(0, len(pairs), step)):
        distance = (HASH_BITS - bits[way][first:first + step] @ bits[0].T) / 2
        for left, right in zip(*np.nonzero(distance <= HASH_DISTANCE)):
            left += first
            if left < right and (left, right) not in found and _correlate(ways[way][left], ways[0][right]):
                found[int(left), int(right)] = way
    for (left, right), way in sorted(found.items()):
        one, other = ({split.part_of for split, _ in owned[place]} for place in (left, right))
        leak, why = _leak(one | other) if one != other else (False, '')
        names = dict.fromkeys(split.name for place in (left, right) for split, _ in owned[place])
        how = ', turned or mirrored, ' if way else ' '
        yield Finding(' and '.join(names), leak, f'{pairs[left].files[0]} is{how}the same pair as '
                      f'{pairs[right].files[0]}' + (f': {why}.' if why else '.'),
                      [pairs[left].files, pairs[right].files])


def _leak(parts: Collection[str]) -> tuple[bool, str]:
    """Whether it is an error that the parts of a data set share a pair, and why they should not."""
    if set(parts) <= {'val', 'test'}:
        return False, 'the checkpoint and the threshold are chosen on what is tested'
    return True, 'what is tested must not be trained on'


def _turn(images: np.ndarray, way: int) -> np.ndarray:
    turned = np.rot90(images, way % 4, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if way >= 4 else turned)


def _correlate(first: np.ndarray, second: np.ndarray) -> bool:
    return all(np.corrcoef(one.ravel(), other.ravel())[0, 1] >= CORRELATION for one, other in zip(first, second))


def summarize(split: Split) -> dict[str, str]:
    """A split in a few words and figures."""
    sizes = Counter(pair.size for pair in split.pairs)
    shown = [f'{width}×{height}' + (f' ({count})' if len(sizes) > 1 else '')
             for (height, width), count in sizes.most_common(3)]
    shares = [pair.changed for pair in split.pairs]
    values = sorted({value for pair in split.pairs for value in pair.values})
    counted = [pair for pair in split.pairs if pair.labelled]
    weights = [pair.labelled for pair in counted]
    mean = deviation = ''
    if counted:
        means, squares = np.average([pair.moments for pair in counted], axis=0, weights=weights)
        mean, deviation = (', '.join(f'{value:.1f}' for value in channels)
                           for channels in (means, np.sqrt(np.maximum(squares - means**2, 0))))
    return {
        'split': split.name,
        'pairs read': f'{len(split.pairs):,}',
        'files in A, B, label': ', '.join(f'{count:,}' for count in split.files),
        'sizes': ', '.join(shown) + (f' and {len(sizes) - 3} more' if len(sizes) > 3 else ''),
        'label values': ', '.join(map(str, values[:6])) + (f' and {len(values) - 6} more' if len(values) > 6 else ''),
        'changed': f'{100 * np.average([pair.changed for pair in counted], weights=weights):.2f} %' if counted else '',
        'pairs without change': f'{sum(not share for share in shares):,}',
        'mean': mean,
        'std': deviation,
    }


def _picture(files: tuple[Path, Path, Path], loaders: tuple[LoadPair, LoadChangeLabel]) -> str:
    *dates, label = load_pair(files, *loaders)
    date1, date2 = map(loaders[0].picture, dates)
    return embed(draw_row({'date 1': date1, 'date 2': date2, 'label': draw_mask(label)}, 256))


def write_summary(path: Path, splits: Sequence[Split], findings: Sequence[Finding], number: int) -> None:
    """Write the summary with pictures of pairs across each split, and of those that something is wrong with."""
    samples = {}
    for split in splits:
        # from no change to the most
        ranked = sorted(split.pairs, key=lambda pair: pair.changed)
        places = np.unique(np.linspace(0, len(ranked) - 1, min(number, len(ranked))).astype(int))
        samples[split.name] = [
            (f'{ranked[place].files[0].name}, {100 * ranked[place].changed:.2f} % changed',
             _picture(ranked[place].files, split.loaders)) for place in places]
    loaders = {pair.files: split.loaders for split in splits for pair in split.pairs}
    shown = [(finding, [_picture(files, loaders[files]) for files in finding.pairs]) for finding in findings[:100]]
    write_page(
        path, 'check_dataset.html.j2', summaries=[summarize(split) for split in splits], samples=samples,
        findings=shown, total=len(findings))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    splits = find_splits(args.dataset)
    findings = [finding for split in splits for finding in check_split(split)]
    try:
        findings += find_duplicates(splits)
    except ImportError as error:
        findings.append(Finding('', False, f'Duplicates were not looked for: {error}. pip install "ifn_plugin[check]"'))
    for split in splits:
        print(readable(', '.join(f'{key}: {value}' for key, value in summarize(split).items() if value)))
    for finding in findings:
        where = f'{finding.split}: ' if finding.split else ''
        print(readable(f'{"error" if finding.error else "note"}: {where}{finding.message}'))
    if args.out:
        write_summary(args.out, splits, findings, args.pictures)
        print(readable(f'The page: {args.out}'))
    errors = sum(finding.error for finding in findings)
    print(f'{errors} errors, {len(findings) - errors} notes')
    if errors:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
