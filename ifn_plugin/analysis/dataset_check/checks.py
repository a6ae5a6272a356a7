"""Checks of a split."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ifn_plugin.analysis.dataset_check.reading import Listing, list_split, read_pairs
from ifn_plugin.analysis.dataset_check.records import Finding, Pair, Split
from ifn_plugin.datasets.levircd import check_selection, find_equal, find_repeated


def check_split(split: Split) -> Iterator[Finding]:
    """Read a split, set its ``pairs`` and ``files``, and run all checks.

    Yields:
        The findings.
    """
    try:
        listing = list_split(split)
    except ValueError as error:
        yield Finding(split.name, True, str(error))
        return
    for check_listing in LISTING_CHECKS:
        yield from check_listing(split, listing)
    for result in read_pairs(split, listing):
        if isinstance(result, str):
            yield Finding(split.name, True, result)
            continue
        split.pairs.append(result)
        for check_pair in PAIR_CHECKS:
            yield from check_pair(split, result)
    for check_pairs in SPLIT_CHECKS:
        yield from check_pairs(split)


def check_emptiness(split: Split, listing: Listing) -> Iterator[Finding]:
    """Find out whether the split has no image."""
    if not listing.names:
        yield Finding(split.name, True, f'{split.folders[0].parent} has no images.')


def check_completeness(split: Split, listing: Listing) -> Iterator[Finding]:
    """Find pairs of which a file is missing."""
    for name in listing.names:
        missing = [f'{folder / name}{suffix or ".*"}'
                   for folder, files, suffix in zip(split.folders, listing.files, split.suffixes) if name not in files]
        if missing:
            yield Finding(split.name, True, f'incomplete pair, missing: {", ".join(missing)}')


def check_equal_files(split: Split, listing: Listing) -> Iterator[Finding]:
    """Find pairs in which two of the three files are the same."""
    equal = find_equal([name for name in listing.names if listing.is_complete(name)], split.folders, listing.files)
    if equal:
        yield Finding(split.name, True, equal)


def check_indices(split: Split, listing: Listing) -> Iterator[Finding]:
    """Find ``indices`` that are out of range or select nothing."""
    fault = check_selection(split.indices, len(listing.names), split.folders[0])
    if fault:
        yield Finding(split.name, True, fault)


def check_repeated(split: Split, listing: Listing) -> Iterator[Finding]:
    """Find pairs that the list of pairs names several times."""
    repeated = find_repeated(listing.names)
    if repeated:
        yield Finding(split.name, split.part_of != 'train', f'{split.ann_file} lists these pairs several times, and so '
                      f'they count several times: {repeated}. Fix: list each once.')


def check_uniform_images(split: Split, pair: Pair) -> Iterator[Finding]:
    """Find images with a single grey level."""
    for path, thumbnail in zip(pair.files, pair.thumbnails):
        if np.ptp(thumbnail) == 0:
            yield Finding(split.name, False, f'{path} has the same grey level everywhere.', [pair.files])


def check_identical_images(split: Split, pair: Pair) -> Iterator[Finding]:
    """Find identical dates with a label that has changes."""
    if pair.identical and pair.changed:
        yield Finding(split.name, True, f'{pair.files[0]} and {pair.files[1]} are the same image, but the label has '
                      'changes.', [pair.files])


def check_mixed_labels(split: Split) -> Iterator[Finding]:
    """Find labels of both conventions, 1 and 255 for "changed", in one split."""
    conventions = _conventions(split)
    if len(conventions.keys() & {1, 255}) == 2 and split.loaders[1].threshold is split.loaders[1].changed is None:
        yield Finding(split.name, True, f'"changed" is 255 in {conventions[255]} labels and 1 in {conventions[1]}. '
                      'Fix, if 255 means "ignored" anywhere: LoadChangeLabel(changed=1).')


def check_inverted_labels(split: Split) -> Iterator[Finding]:
    """Find labels whose colour table may mean the opposite of their indices."""
    inverted = [pair.files for pair in split.pairs if pair.inverted]
    if inverted:
        yield Finding(split.name, False, f'{len(inverted)} labels, such as {inverted[0][2]}, have a colour table that '
                      'shows 0 lighter than the rest: the indices are used, 0 for unchanged. If that is wrong, save '
                      'them without a colour table.', inverted[:1])


def check_unread_labels(split: Split) -> Iterator[Finding]:
    """Find labels that open-cd's or mmseg's loader misreads."""
    # open-cd's loader treats values below 128 as unchanged, mmseg's treats 255 as ignored
    unread = 1 if split.stock_loader.endswith('MultiImgLoadAnnotations') else 255
    number = _conventions(split)[unread]
    if split.stock_loader and number:
        yield Finding(split.name, True, f'"changed" is {unread} in {number} labels, which {split.stock_loader} of the '
                      'configuration does not read as changed. Fix: replace it by ifn_plugin.LoadChangeLabel.')


def check_change(split: Split) -> Iterator[Finding]:
    """Find out whether no label has a changed pixel."""
    if split.pairs and not any(pair.changed for pair in split.pairs):
        yield Finding(split.name, True, 'no label has a changed pixel.')


def _conventions(split: Split) -> Counter[int]:
    """Count the labels by their highest value.

    Packed labels are left out: they have one convention, in which 255 is ignored.
    """
    return Counter(max(set(pair.values) - {0}, default=0) for pair in split.pairs if pair.files[2].suffix != '.npy')


LISTING_CHECKS = (check_emptiness, check_completeness, check_equal_files, check_indices, check_repeated)
PAIR_CHECKS = (check_uniform_images, check_identical_images)
SPLIT_CHECKS = (check_mixed_labels, check_inverted_labels, check_unread_labels, check_change)
