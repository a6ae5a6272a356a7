"""mmengine's file backend, with atomic writes."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ifn_plugin.fileio.atomic import write_atomic


@register_backend('ifn_plugin.whole')
class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files, in which a file is there as a whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; a former one of the same name stays until the new one is on the disk.

        Raises:
            OSError: If it cannot be written, with what is left and what to do.
        """
        write_atomic(obj, Path(filepath))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)
