"""From the files of a change detection data set to pairs."""

from .augment import PairPhotoMetricDistortion, RandomRotateCropFlip
from .dataset import LEVIRCDDataset, list_images
from .transforms import ConcatDates, EachDate, LoadChangeLabel, LoadPair

__all__ = ['ConcatDates', 'EachDate', 'LEVIRCDDataset', 'LoadChangeLabel', 'LoadPair',
           'PairPhotoMetricDistortion', 'RandomRotateCropFlip', 'list_images']
