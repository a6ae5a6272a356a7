"""Change detection with a trained network, under the name that scripts import."""

from ifn_plugin.apis.inferencer import ChangeDetector, ChangeMap, find_pairs

__all__ = ['ChangeDetector', 'ChangeMap', 'find_pairs']
