"""Change detection data sets and their transforms."""

from ifn_plugin.datasets.levircd import LEVIRCDDataset
from ifn_plugin.datasets.settings import find_loaders
from ifn_plugin.datasets.transforms import (
    BandDistortion,
    ConcatDates,
    EachDate,
    LoadBands,
    LoadChangeLabel,
    LoadPair,
    PairPhotoMetricDistortion,
    RandomExchangeDates,
    RandomRotateCropFlip,
)
from ifn_plugin.datasets.views import check_views

__all__ = [
    'BandDistortion', 'ConcatDates', 'EachDate', 'LEVIRCDDataset', 'LoadBands', 'LoadChangeLabel', 'LoadPair',
    'PairPhotoMetricDistortion', 'RandomExchangeDates', 'RandomRotateCropFlip', 'check_views', 'find_loaders'
]
