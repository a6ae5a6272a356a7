"""Reading from servers by GDAL, with an error wherever something did not arrive."""

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# A connection that breaks is retried, and one that stands still for a minute is broken
_SETTINGS = dict(GDAL_HTTP_MAX_RETRY='5', GDAL_HTTP_RETRY_DELAY='1', GDAL_HTTP_CONNECTTIMEOUT='30',
                 GDAL_HTTP_LOW_SPEED_TIME='60', GDAL_HTTP_LOW_SPEED_LIMIT='1',
                 CPL_LOG=os.devnull)  # where messages go that rasterio does not get
# Messages of these tell of answers
_READERS = dict(CPL_DEBUG='VSICURL,S3,GS,AZURE,ADLS,OSS,SWIFT,WEBHDFS')
# not where GDAL itself stops because a server sends more than it was asked for
_ENDED_EARLY = re.compile(r'(?:DownloadRegion|ReadMultiRange)\(.*response_code=(2\d\d), msg=(?!Fail)(.*)')
_REFUSED = re.compile(r'Got response_code=(0|(?!416)[45]\d\d)')  # 416: there is nothing behind the end
_REPEATED = re.compile(r'Retrying|Switching to region|Using temporary redirect')
_heard = threading.local()


class BrokenConnectionError(OSError):
    """Raised if an answer of a server failed or ended early."""


class _Answers:
    """What GDAL says of a server's answers."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._refusal = ''  # the last answer, if it failed and GDAL has not said that it repeats the request

    def hear(self, message: str) -> None:
        if found := _ENDED_EARLY.search(message):  # GDAL takes this for the end of the file
            self._faults.append(f'status {found[1]}, {found[2]}')
        elif found := _REFUSED.search(message):
            self._refusal = f'status {found[1]}'
        elif _REPEATED.search(message):
            self._refusal = ''
        elif 'Downloading' in message:
            self._faults, self._refusal = self.faults(), ''

    def faults(self) -> list[str]:
        """List the answers that failed or ended early."""
        return [*self._faults, self._refusal] if self._refusal else self._faults


@contextmanager
def complete_answers() -> Iterator[None]:
    """Raise an error if something that GDAL reads from a server in the body does not arrive, or not completely.

    GDAL's own settings in the environment or in a ``rasterio.Env`` take precedence over those that are chosen here. It
    repeats failed requests as its settings say, but an answer that ends early is the end of the file for it. Many
    of its drivers, such as ENVI and PNG, then read zeros without an error; only debugging messages tell.

    Raises:
        BrokenConnectionError: If an answer failed or ended early.
    """
    import rasterio

    _listen()
    outer = getattr(_heard, 'answers', None)
    answers = _heard.answers = _Answers()
    try:
        own = {**os.environ, **(rasterio.env.getenv() if rasterio.env.hasenv() else {})}
        with rasterio.Env(**{name: value for name, value in _SETTINGS.items() if name not in own}, **_READERS):
            yield
    except rasterio.errors.RasterioError as error:
        _refuse_faults(answers, error)
        raise
    finally:
        _heard.answers = outer
    _refuse_faults(answers)


def forget_answers(name: str) -> None:
    """Drop what GDAL keeps of a raster on a server, so that it is requested anew.

    This concerns files that are needed to open it, not others, such as the sources of a virtual raster.
    """
    import rasterio

    with rasterio.Env(CPL_VSIL_CURL_NON_CACHED='/vsi'), suppress(rasterio.errors.RasterioError):
        rasterio.open(name).close()  # closing it drops it


def _refuse_faults(answers: _Answers, error: Exception | None = None) -> None:
    if faults := answers.faults():
        consequence = f': {error.__cause__ or error}' if error else ''
        raise BrokenConnectionError(
            f'an answer of the server failed or ended early ({faults[0]}){consequence}') from error


def _listen() -> None:
    """Hear all that rasterio logs of GDAL, without showing more of it than before."""
    for name in ('rasterio._env', 'rasterio._err'):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addFilter(_hear)  # once: a filter that is there is not added again


def _hear(record: logging.LogRecord) -> bool:
    answers = getattr(_heard, 'answers', None)
    if answers is not None:
        answers.hear(record.getMessage())
    return record.levelno >= logging.getLogger('rasterio').getEffectiveLevel()
