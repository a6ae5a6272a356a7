"""Provenance of results: from what, with what and how they were made."""

import re
from collections.abc import Sequence
from datetime import datetime, timezone

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.fileio import find_checksum
from ifn_plugin.version import __version__


def describe_run(detector: ChangeDetector, sources: Sequence[str], time: float | None = None) -> dict[str, str]:
    """Describe how results are made, as tags of GDAL.

    Args:
        detector: The detector.
        sources: The earlier and the later raster, or folders of them. Keys in URLs are left out.
        time: Time of the run, in seconds since 1970; now if ``None``.

    Returns:
        The sources, configuration, checkpoint and its SHA-256, threshold, precision, version and time (UTC).
    """
    date1, date2 = map(strip_secrets, map(str, sources))
    moment = datetime.now(timezone.utc) if time is None else datetime.fromtimestamp(time, timezone.utc)
    return dict(
        DATE1=date1, DATE2=date2, CONFIGURATION=detector.config, CHECKPOINT=strip_secrets(detector.checkpoint),
        CHECKPOINT_SHA256=find_checksum(detector.checkpoint), THRESHOLD=f'{detector.threshold:g}',
        PRECISION=str(detector.dtype).removeprefix('torch.'), TIFFTAG_SOFTWARE=f'ifn_plugin {__version__}',
        TIFFTAG_DATETIME=moment.strftime('%Y:%m:%d %H:%M:%S'))


def strip_secrets(source: str) -> str:
    """Remove passwords and queries, which hold the keys of signed links, from a URL; return other names as they are."""
    if '://' not in source and not source.startswith('/vsicurl'):
        return source
    return re.sub(r'//[^/@]*@', '//', re.sub(r'\?.*', '', source))
