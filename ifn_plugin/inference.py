"""Change detection with a trained network, under the name that scripts import."""

from ifn_plugin.apis.inferencer import ChangeDetector, ChangeMap, find_pairs
from ifn_plugin.apis.predict import predict_rasters

__all__ = ['ChangeDetector', 'ChangeMap', 'find_pairs', 'predict_rasters']
