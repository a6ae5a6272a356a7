"""Checkpoints: loading them safely, and bringing other projects' weights of IFN to this one's names."""

import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmengine import dist
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ._unpickling import TORCH_KNOWS_SAFE_GLOBALS, SafePickle, finish, name_unknown, what_mmengine_writes

if TYPE_CHECKING:
    from .models import IFN

# torchvision's VGG16_Weights.IMAGENET1K_V1; the file's name ends in the first digits of its checksum
VGG16_SHA256 = '397923af'
VGG16_URL = f'https://download.pytorch.org/models/vgg16-{VGG16_SHA256}.pth'


class CheckpointError(ValueError):
    """A checkpoint that cannot be read safely, or does not fit the model."""


def make_loading_safe() -> None:
    """Let mmengine load checkpoints, files and URLs, by :func:`load_checkpoint_file`.

    mmengine leaves it to torch how files are read. Before 2.6, torch ran what code they hold; since then it refuses
    what mmengine's own runner writes, which stops ``--resume`` and ``test``. Called when ``ifn_plugin`` is imported.
    """

    def load_from_safe(source: str, map_location: Any = 'cpu') -> dict[str, Any]:  # mmengine logs the name's end
        return load_checkpoint_file(source, map_location)

    CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_safe, force=True)


def load_checkpoint_file(source: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        source: A file, a URL, or ``torchvision://vgg16``.
        map_location: Device for the tensors, as ``torch.load`` takes it.

    Returns:
        The checkpoint's dictionary.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be downloaded.
        CheckpointError: If it is damaged, no dictionary, or wants anything but tensors and what mmengine writes.
    """
    source = str(source)
    url = VGG16_URL if source == 'torchvision://vgg16' else source
    if url.startswith('torchvision://'):
        raise ValueError(f'{source}: the encoder of IFN is VGG16, so only torchvision://vgg16 fits.')
    try:
        path = _local(url)
        _check_kind(path)
        _check_sums(path)
        content = finish(_load(path, map_location))
    except (URLError, TimeoutError, ConnectionError) as error:
        raise FileNotFoundError(
            f'{url} cannot be downloaded ({error}). Download it where there is a network and name the file: '
            "backbone.init_cfg=dict(type='Pretrained', checkpoint='/path/to/file.pth').") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{source}: no such checkpoint.') from error
    except Exception as error:  # there is no end to what a damaged pickle can raise
        raise CheckpointError(
            f'{source} is no checkpoint that can be read safely: {_reason(error)}{_how_to_renew(url)}') from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{source} holds a {type(content).__name__}, not a dictionary of weights{_how_to_renew(url)}.')
    return content


def _is_remote(url: str) -> bool:
    return url.startswith(('http://', 'https://'))


def _cached(url: str) -> Path:
    """Where torch keeps what it downloads."""
    return Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)


def _how_to_renew(url: str) -> str:
    if not _is_remote(url) or not _cached(url).exists():
        return ''
    return f'. What was downloaded lies in {_cached(url)}: remove it there to download it again'


def _local(url: str) -> Path:
    """The file itself, or what torch's cache has of a URL; one process of each machine downloads what it has not."""
    if not _is_remote(url):
        return Path(url).expanduser()
    path = _cached(url)
    # as the launchers set it; mmengine's get_local_rank needs a process group that nobody makes
    if os.environ.get('LOCAL_RANK', '0') == '0' and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading {url} to {path}', 'current')
        torch.hub.download_url_to_file(url, str(path), hash_prefix=VGG16_SHA256 if url == VGG16_URL else None)
    dist.barrier()
    return path


def _load(path: Path, map_location: Any) -> Any:
    zipped = zipfile.is_zipfile(path)
    if zipped and torch.serialization._is_torchscript_zip(torch._C.PyTorchFileReader(str(path))):
        raise ValueError('it is a TorchScript program')  # which torch would run
    if not TORCH_KNOWS_SAFE_GLOBALS:
        return torch.load(path, map_location=map_location, pickle_module=SafePickle, weights_only=False)
    with torch.serialization.safe_globals(what_mmengine_writes()):
        # the older format has no list of its names
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        with torch.serialization.safe_globals(name_unknown(unknown)):
            return torch.load(path, map_location=map_location, weights_only=True)


def _check_kind(path: Path) -> None:
    """Recognize what often lies in place of a checkpoint."""
    with path.open('rb') as file:
        start = file.read(64).lstrip().lower()
    kinds = {b'<': 'a web page', b'{': 'JSON', b'version https://git-lfs': 'a pointer of Git LFS, see git lfs pull'}
    kind = next((kind for beginning, kind in kinds.items() if start.startswith(beginning)), None)
    if kind or not start:
        raise ValueError(f'it is {kind or "empty"}. Download it again')


def _check_sums(path: Path) -> None:
    """Compare the parts of a file with their checksums, which torch does not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged:
            raise ValueError(f'{damaged} in it is damaged, or was saved without a checksum')


def _reason(error: Exception) -> str:
    """What is wrong, in a line: torch's own message is a page, and tells how to load without safety."""
    paragraphs = [text for text in re.split(r'\n\s*\n', str(error).strip()) if not text.startswith('Check the doc')]
    text = paragraphs[-1].rpartition('WeightsUnpickler error:')[2].strip() if paragraphs else ''
    return re.split(r'\n|(?<!\d)\. ', text)[0] or type(error).__name__


def get_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint: its ``state_dict`` where it has one, itself otherwise, without ``module.``."""
    state_dict = checkpoint.get('state_dict', checkpoint)
    items = state_dict.items() if isinstance(state_dict, Mapping) else ()
    return {str(key).removeprefix('module.'): value for key, value in items if isinstance(value, Tensor)}


def load_encoder_weights(model: 'IFN', source: str, prefix: str | None = None, map_location: str = 'cpu') -> None:
    """Load a VGG16 into an encoder, all of it or nothing.

    Args:
        model: The encoder.
        source: As for :func:`load_checkpoint_file`: weights of torchvision's VGG16, or a change detector with this
            encoder: the plugin's, open-cd's or the official one.
        prefix: Where in the file the encoder's ``features.`` stand, if not at one of these projects' places.
        map_location: Device for the tensors.

    Raises:
        ValueError: If weights are missing or of another shape: the keys are named and nothing is loaded.
    """
    place = r'(backbone\.)?(encoder1\.|t1_base\.)?' if prefix is None else re.escape(prefix.rstrip('.') + '.')
    found = {}
    for key, value in get_state_dict(load_checkpoint_file(source, map_location)).items():
        match = re.fullmatch(place + r'features\.(?P<rest>.+)', key)
        if match:
            found[match['rest']] = value
    if '0.weight' in found:
        found['0.weight'] = spread_channels(found['0.weight'], model.in_channels)
    misfits = list_misfits(found, model.features.state_dict(), 'features.')
    if misfits:
        raise ValueError(f'{source} does not fit the encoder of IFN (VGG16, {model.in_channels} channels): {misfits}. '
                         'Nothing was loaded.')
    model.features.load_state_dict(found)
    print_log(f'Loaded the encoder of IFN from {source}', 'current')


def spread_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Make the first convolution of a network for red, green and blue one for other bands.

    Each band gets the mean of the three's weights, scaled so that grey images give the same features.

    Args:
        weight: (F, 3, k, k).
        in_channels: Number of bands.

    Returns:
        (F, in_channels, k, k); what has not three channels, or is to have three, is returned as it is.
    """
    if weight.ndim != 4 or weight.shape[1] != 3 or in_channels == 3:
        return weight
    print_log(f'The first convolution, made for 3 channels, was spread over {in_channels}', 'current')
    return (weight.mean(dim=1, keepdim=True) * (3 / in_channels)).repeat(1, in_channels, 1, 1)


def load_weights(source: str | Path, checkpoint: Mapping[str, Any], model: torch.nn.Module) -> dict[str, Tensor]:
    """Load a detector's weights, all of them, bringing those of another project's IFN to this one's names.

    Args:
        source: Where the checkpoint comes from.
        checkpoint: The checkpoint.
        model: The detector.

    Returns:
        The weights that were loaded, without the preprocessor's constants, which the configuration has.

    Raises:
        CheckpointError: If some are missing, of another shape, or unknown; the keys are named.
    """
    from .models import IFNHead  # models import this module

    state = get_state_dict(checkpoint)
    project = recognize(state)
    if project in _PROJECTS and isinstance(getattr(model, 'decode_head', None), IFNHead):
        print_log(f'Converting {source}, the weights of {project}', 'current')
        try:
            state, project = convert_state_dict(state), None
        except ValueError as error:
            raise CheckpointError(f'{source}: {error}') from error
    state = {key: value for key, value in state.items() if not key.startswith('data_preprocessor.')}
    try:
        model.load_state_dict(state)  # torch is to judge, since modules may bring former names and shapes up to date
    except RuntimeError as error:
        misfits = list_misfits(state, model.state_dict()) or str(error)
        fix = f' It is {project}: bring it over by ifn_plugin.tools.convert_checkpoint.' if project in _PROJECTS else ''
        raise CheckpointError(f'{source} does not fit the configuration: {misfits}.{fix}') from error
    return state


def list_misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str = '') -> str:
    """Say what is wrong with weights.

    Args:
        found: The weights.
        wanted: Those of the network.
        prefix: What to put before the names.

    Returns:
        The first names that are missing, of another shape or unknown; nothing if the weights fit.
    """
    faults = [f'{prefix}{key} is missing' for key in wanted if key not in found]
    faults += [f'{prefix}{key} is {tuple(found[key].shape)}, not {tuple(value.shape)}'
               for key, value in wanted.items() if key in found and found[key].shape != value.shape]
    faults += [f'{prefix}{key} is unknown' for key in found if key not in wanted]
    return '; '.join(faults[:8]) + (f' and {len(faults) - 8} more' if len(faults) > 8 else '')


@dataclass(frozen=True)
class _Project:
    """How another implementation names the modules of IFN."""

    encoders: tuple[str, str]
    spatial: str
    wrapper: str

    @cached_property
    def names(self) -> dict[str, str]:
        """Its modules, each with the plugin's name."""
        names = {f'{encoder}.features.{index}': f'backbone.features.{index}'
                 for encoder in self.encoders for index in range(30)}
        for number in range(1, 6):  # coarse to fine
            level = f'decode_head.levels.{number - 1}'
            blocks = 2 if number == 1 else 3
            names |= {f'o{number}_conv{block + 1}.{part}': f'{level}.blocks.{block}.{part}'
                      for block in range(blocks) for part in range(3)}
            names |= {
                f'bn_sa{number}': f'{level}.norm',
                f'sa{number}.{self.spatial}': f'{level}.spatial_attention.conv',
                f'o{number}_conv{blocks + 1}{self.wrapper}': f'{level}.logit',
            }
            if number > 1:
                names |= {f'ca{number}.{layer}{self.wrapper}': f'{level}.channel_attention.{layer}'
                          for layer in ('fc1', 'fc2')}
            if number < 5:
                names[f'trans_conv{number}'] = f'decode_head.levels.{number}.upsample'
        return names

    @property
    def unused(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that it has and never uses."""
        shapes: dict[str, tuple[int, ...]] = {
            f'ca1.fc1{self.wrapper}.weight': (128, 1024, 1, 1), f'ca1.fc2{self.wrapper}.weight': (1024, 128, 1, 1)}
        for norm, channels in (('bn_ca1', 1024), ('bn_ca2', 1536)):
            shapes |= {f'{norm}.{name}': (channels, ) for name in ('weight', 'bias', 'running_mean', 'running_var')}
            shapes[f'{norm}.num_batches_tracked'] = ()
        return shapes


_PROJECTS = {
    "open-cd's IFN": _Project(('encoder1', 'encoder2'), 'conv.seq.1', '.seq.0'),  # and CDLab's
    'the official DSIFN': _Project(('t1_base', 't2_base'), 'conv1', ''),
}


@lru_cache
def _detector_weights() -> dict[str, Tensor]:
    """Without values."""
    from .models import IFN, IFNHead  # models import this module

    with torch.device('meta'):
        detector = torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead()))
    return dict(detector.state_dict())


def recognize(state_dict: Mapping[str, Any]) -> str | None:
    """Whose weights of IFN these are: ``'ifn_plugin'``, another project's name, or ``None`` for none of them."""
    keys = {key.removeprefix('backbone.') for key in get_state_dict(state_dict)}
    if any(key.startswith(('decode_head.levels.', 'features.')) for key in keys):
        return 'ifn_plugin'
    for name, project in _PROJECTS.items():
        if any(key.startswith(f'{project.encoders[0]}.features.') for key in keys):
            return name
    return None


def split_unused(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part the weights into those of the network and those that another project has and never uses.

    Returns:
        Both, the second with the names that they have without ``backbone.`` in open-cd.
    """
    renamed = {theirs: opencds for project in _PROJECTS.values()
               for theirs, opencds in zip(project.unused, _PROJECTS["open-cd's IFN"].unused)}
    used, unused = {}, {}
    for key, value in get_state_dict(state_dict).items():
        name = key.removeprefix('backbone.')
        if name in renamed:
            unused[renamed[name]] = value
        elif not key.startswith('data_preprocessor.'):  # its constants, which the configuration has
            used[key] = value
    return used, unused


def convert_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Bring the weights of an IFN to the names of a detector with ``ifn_plugin.IFN`` and ``ifn_plugin.IFNHead``.

    Args:
        state_dict: Weights, or a checkpoint that holds them under ``state_dict``, of the official DSIFN, of open-cd's
            IFN (with or without ``backbone.``) or CDLab's, or of the plugin itself.

    Returns:
        All of ``backbone.features.…`` and ``decode_head.levels.…``; layers that the other projects never use are left
        out.

    Raises:
        ValueError: For keys that are none of IFN's, missing ones, other shapes, or two encoders that differ: the keys
            are named.
    """
    project = _PROJECTS.get(recognize(state_dict) or '')
    names = project.names if project else {}
    converted: dict[str, Tensor] = {}
    for key, value in split_unused(state_dict)[0].items():
        module, _, parameter = key.rpartition('.')
        name = f'{names.get(module.removeprefix("backbone."), module)}.{parameter}'
        if name in converted and not torch.equal(converted[name], value):
            raise ValueError(f"{key} differs from the other date's encoder, but IFN has one encoder for both dates.")
        converted[name] = value
    misfits = list_misfits(converted, _detector_weights())
    if misfits:
        raise ValueError(f'These are not the weights of an IFN: {misfits}.')
    return converted


def convert_to_opencd(state_dict: Mapping[str, Any], unused: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Bring the weights of an IFN to the names of a detector with open-cd's ``IFN``.

    Args:
        state_dict: As for :func:`convert_state_dict`.
        unused: Values for the layers that open-cd's IFN has and never uses, as :func:`split_unused` gives them; ones
            and zeros by default.

    Returns:
        All of ``backbone.…``, with the encoder twice, as open-cd has it.

    Raises:
        ValueError: As :func:`convert_state_dict`.
    """
    weights = convert_state_dict(state_dict)
    project = _PROJECTS["open-cd's IFN"]
    converted = {f'backbone.{theirs}.{key.rpartition(".")[2]}': value
                 for theirs, ours in project.names.items()
                 for key, value in weights.items() if key.rpartition('.')[0] == ours}
    like = next(iter(weights.values()))
    for key, shape in project.unused.items():
        value = (unused or {}).get(key)
        if value is None:
            one = key.endswith(('.running_var', 'bn_ca1.weight', 'bn_ca2.weight'))
            value = like.new_full(shape, one, dtype=torch.int64 if key.endswith('num_batches_tracked') else None)
        converted[f'backbone.{key}'] = value
    return converted

