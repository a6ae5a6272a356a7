"""Atomic file writing, safe checkpoint loading, and bands of rasters."""

from ifn_plugin.fileio.atomic import atomic_path, unfinished_path, write_atomic
from ifn_plugin.fileio.backend import WholeFileBackend
from ifn_plugin.fileio.checkpoint import CheckpointError, find_checksum, load_checkpoint_file, make_loading_safe
from ifn_plugin.fileio.pillow import any_size, write_png
from ifn_plugin.fileio.servers import BrokenConnectionError, complete_answers, forget_answers

__all__ = [
    'BrokenConnectionError', 'CheckpointError', 'WholeFileBackend', 'any_size', 'atomic_path', 'complete_answers',
    'find_checksum', 'forget_answers', 'load_checkpoint_file', 'make_loading_safe', 'unfinished_path', 'write_atomic',
    'write_png'
]
