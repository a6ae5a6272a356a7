"""mmengine's local file backend with atomic writes."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ifn_plugin.fileio.atomic import write_atomic


@register_backend('ifn_plugin.whole')
class WholeFileBackend(LocalBackend):
    """Local file backend of mmengine that writes atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically; an existing one stays until the new one is on disk.

        Raises:
            OSError: If the file cannot be written; for a full disk, the message says what is left and what to do.
        """
        write_atomic(obj, Path(filepath))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text atomically, as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)
