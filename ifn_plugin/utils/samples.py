"""Helpers for samples of data sets."""

from collections.abc import Sequence


def sample_files(img_path: str | Sequence[str] | None) -> list[str]:
    """List the image files of a sample; ``img_path`` may be a single file, as with a loader of stacked dates."""
    return [img_path] if isinstance(img_path, str) else list(img_path or [])
