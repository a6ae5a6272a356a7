"""From the files of a change detection data set to pairs."""

from .augment import PairPhotoMetricDistortion, RandomRotateCropFlip
from .bands import BandDistortion, LoadBands
from .dataset import LEVIRCDDataset, list_images
from .transforms import ConcatDates, EachDate, LoadChangeLabel, LoadPair, RandomExchangeDates, find_loaders
from .views import check_views

__all__ = ['BandDistortion', 'ConcatDates', 'EachDate', 'LEVIRCDDataset', 'LoadBands', 'LoadChangeLabel', 'LoadPair',
           'PairPhotoMetricDistortion', 'RandomExchangeDates', 'RandomRotateCropFlip', 'check_views', 'find_loaders',
           'list_images']
