"""Safe loading of checkpoints."""

import hashlib
import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmengine import dist, fileio
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ifn_plugin.fileio.unpickling import (
    TORCH_KNOWS_SAFE_GLOBALS,
    SafePickle,
    finish,
    list_placeholders,
    list_safe_globals,
)

# torchvision's VGG16_Weights.IMAGENET1K_V1; the file name ends in the first digits of its checksum
VGG16_SHA256 = '397923af'

VGG16_URL = f'https://download.pytorch.org/models/vgg16-{VGG16_SHA256}.pth'


class CheckpointError(ValueError):
    """Error for a checkpoint that cannot be read safely or does not fit the model."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """Error for a checkpoint that does not exist or cannot be downloaded."""


def make_loading_safe() -> None:
    """Make mmengine load checkpoints from files, URLs and object stores with :func:`load_checkpoint_file`.

    mmengine reads files with torch's defaults. Before 2.6, torch ran any code in them; since then it refuses what
    mmengine's own runner writes, which breaks ``--resume`` and ``test``. Called when ``ifn_plugin`` is imported.
    """

    def load_from_safe(source: str, map_location: Any = 'cpu') -> dict[str, Any]:  # mmengine logs the end of this name
        return load_checkpoint_file(source, map_location)

    def load_from_safe_store(source: str, map_location: Any = 'cpu', backend: str = 'petrel') -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            path = Path(folder, source.rpartition('/')[2])
            path.write_bytes(fileio.get(source, backend_args=dict(backend=backend)))
            try:
                return load_checkpoint_file(path, map_location)
            except CheckpointError as error:  # names the copy
                raise CheckpointError(str(error).replace(str(path), source)) from error

    CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_safe, force=True)
    # mmengine's own names of these schemes
    CheckpointLoader.register_scheme((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_safe_store, force=True)


def load_checkpoint_file(source: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        source: A file, a URL, or ``torchvision://vgg16``.
        map_location: Device for the tensors, as in ``torch.load``.

    Returns:
        The checkpoint's dictionary.

    Raises:
        MissingCheckpointError: If there is no such file, or it cannot be downloaded.
        CheckpointError: If it is damaged, not a dictionary, holds anything but tensors and what mmengine writes, or is
            another of torchvision's networks.
    """
    source = str(source)
    url = VGG16_URL if source == 'torchvision://vgg16' else source
    if url.startswith('torchvision://'):
        raise CheckpointError(f'{source}: the encoder of IFN is VGG16, so only torchvision://vgg16 fits.')
    try:
        path = _local(url)
        _check_kind(path)
        _check_sums(path)
        content = finish(_load(path, map_location))
    except (URLError, TimeoutError, ConnectionError) as error:
        raise MissingCheckpointError(
            f'{url} cannot be downloaded ({error}). Fix: download it on a machine with network access and name the '
            'file instead; for the weights that training starts from, by --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE.') from error
    except FileNotFoundError as error:
        raise MissingCheckpointError(f'{source}: no such checkpoint.') from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(
            f'{source} is not a checkpoint that can be read safely: {_reason(error)}{_how_to_renew(url)}') from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{source} holds a {type(content).__name__}, not a dictionary of weights{_how_to_renew(url)}.')
    return content


def find_checksum(source: str | Path) -> str:
    """Return the SHA-256 of a checkpoint, a file or URL as for :func:`load_checkpoint_file`, in hexadecimal digits."""
    source = str(source)
    digest = hashlib.sha256()
    with _local(VGG16_URL if source == 'torchvision://vgg16' else source).open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _is_remote(url: str) -> bool:
    return url.startswith(('http://', 'https://'))


def _cached(url: str) -> Path:
    """Return the path at which torch caches a download."""
    return Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)


def _how_to_renew(url: str) -> str:
    if not _is_remote(url) or not _cached(url).exists():
        return ''
    return f'. Fix: remove the downloaded file {_cached(url)} to download it again'


def _local(url: str) -> Path:
    """Return the local path of a checkpoint; one process per machine downloads a URL that torch has not cached."""
    if not _is_remote(url):
        return Path(url).expanduser()
    path = _cached(url)
    # set by the launchers; mmengine's get_local_rank needs a process group that nothing creates
    if os.environ.get('LOCAL_RANK', '0') == '0' and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading {url} to {path}', 'current')
        torch.hub.download_url_to_file(url, str(path), hash_prefix=VGG16_SHA256 if url == VGG16_URL else None)
    dist.barrier()
    return path


def _load(path: Path, map_location: Any) -> Any:
    zipped = zipfile.is_zipfile(path)
    if zipped and torch.serialization._is_torchscript_zip(torch._C.PyTorchFileReader(str(path))):
        raise ValueError('it is a TorchScript program')  # torch would run it
    if not TORCH_KNOWS_SAFE_GLOBALS:
        return torch.load(path, map_location=map_location, pickle_module=SafePickle, weights_only=False)
    with torch.serialization.safe_globals(list_safe_globals()):
        # the older file format does not list its globals
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        with torch.serialization.safe_globals(list_placeholders(unknown)):
            return torch.load(path, map_location=map_location, weights_only=True)


def _check_kind(path: Path) -> None:
    """Reject files that often turn up in place of a checkpoint."""
    with path.open('rb') as file:
        start = file.read(64).lstrip().lower()
    kinds = {b'<': 'a web page', b'{': 'JSON', b'version https://git-lfs': 'a Git LFS pointer (see git lfs pull)'}
    kind = next((kind for beginning, kind in kinds.items() if start.startswith(beginning)), None)
    if kind or not start:
        raise ValueError(f'it is {kind or "empty"}. Download it again')


def _check_sums(path: Path) -> None:
    """Verify the checksums of a zipped checkpoint, which torch does not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged:
            raise ValueError(f'its member {damaged} is damaged, or was saved without a checksum')


def _reason(error: Exception) -> str:
    """Return the reason in one line: torch's own message fills a page and explains how to load unsafely."""
    paragraphs = [text for text in re.split(r'\n\s*\n', str(error).strip()) if not text.startswith('Check the doc')]
    text = paragraphs[-1].rpartition('WeightsUnpickler error:')[2].strip() if paragraphs else ''
    return re.split(r'\n|(?<!\d)\. ', text)[0] or type(error).__name__


def get_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint or of its ``state_dict``, their keys without ``module.``.

    These are the tensors, and what modules add to them as their extra state. The versions of the modules, which torch
    keeps as ``_metadata``, stay with the weights.
    """
    state_dict = checkpoint.get('state_dict', checkpoint)
    items = state_dict.items() if isinstance(state_dict, Mapping) else ()
    weights: Any = OrderedDict((str(key).removeprefix('module.'), value) for key, value in items
                               if isinstance(value, Tensor) or str(key).endswith('_extra_state'))
    versions = getattr(state_dict, '_metadata', None)
    if versions:
        weights._metadata = {re.sub(r'^module(\.|$)', '', key): value for key, value in versions.items()}
    return weights
