"""Conversion and safe loading of checkpoints, under the name that scripts import."""

from ifn_plugin.fileio import CheckpointError, load_checkpoint_file
from ifn_plugin.models.conversion import convert_state_dict, convert_to_opencd

__all__ = ['CheckpointError', 'convert_state_dict', 'convert_to_opencd', 'load_checkpoint_file']
