"""Files: writing them whole or not at all."""

from ifn_plugin.fileio.atomic import atomic_path, unfinished_path, write_atomic

__all__ = ['atomic_path', 'unfinished_path', 'write_atomic']
