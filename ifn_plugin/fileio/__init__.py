"""Atomic file writing and safe checkpoint loading."""

from ifn_plugin.fileio.atomic import atomic_path, unfinished_path, write_atomic
from ifn_plugin.fileio.backend import WholeFileBackend
from ifn_plugin.fileio.checkpoint import CheckpointError, find_checksum, load_checkpoint_file, make_loading_safe

__all__ = [
    'CheckpointError', 'WholeFileBackend', 'atomic_path', 'find_checksum', 'load_checkpoint_file', 'make_loading_safe',
    'unfinished_path', 'write_atomic'
]
