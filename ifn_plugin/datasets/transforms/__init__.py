"""Transforms for bi-temporal pairs."""

from ifn_plugin.datasets.transforms.augmentation import PairPhotoMetricDistortion, RandomRotateCropFlip
from ifn_plugin.datasets.transforms.bands import BandDistortion, LoadBands
from ifn_plugin.datasets.transforms.loading import LoadChangeLabel, LoadPair
from ifn_plugin.datasets.transforms.wrappers import ConcatDates, EachDate, RandomExchangeDates

__all__ = [
    'BandDistortion', 'ConcatDates', 'EachDate', 'LoadBands', 'LoadChangeLabel', 'LoadPair',
    'PairPhotoMetricDistortion', 'RandomExchangeDates', 'RandomRotateCropFlip'
]
