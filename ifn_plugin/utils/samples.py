"""Files of samples."""

from collections.abc import Sequence


def list_files(img_path: str | Sequence[str] | None) -> list[str]:
    """The images of a sample, whose ``img_path`` may be one file, as with a loader of stacked dates."""
    return [img_path] if isinstance(img_path, str) else list(img_path or [])
