"""Checkpoints: loading them safely, and bringing other projects' weights of IFN to this one's names."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

if TYPE_CHECKING:
    from .models import IFN

# torchvision's VGG16_Weights.IMAGENET1K_V1; the file's name ends in its checksum
VGG16_URL = 'https://download.pytorch.org/models/vgg16-397923af.pth'

# Before, safe loading is not the default and knows no names for what it allows
_KNOWS_SAFE_GLOBALS = torch.__version__ >= torch.torch_version.TorchVersion('2.6')
_HISTORY_BUFFER_METHODS = ('min', 'max', 'current', 'mean')


def _history_buffer_method(owner: object, name: str) -> Any:
    """Stand-in for ``getattr`` in pickles: gives HistoryBuffer's four statistics and nothing else."""
    if owner is HistoryBuffer and name in _HISTORY_BUFFER_METHODS:
        return getattr(HistoryBuffer, name)
    raise UnpicklingError(f'The file wants attribute {name!r} of {owner!r}, which a checkpoint has no use for.')


def allow_mmengine_checkpoints() -> None:
    """Let torch's safe loading (``weights_only=True``) read what mmengine's runner writes.

    Besides tensors, a runner's checkpoint holds logged values: mmengine's ``HistoryBuffer`` with numpy arrays in it.
    Since torch 2.6 made safe loading the default, that stops ``--resume`` and ``test``. Only these types are allowed,
    and ``getattr`` is replaced by a function that hands out ``HistoryBuffer``'s own statistics; everything else is
    refused as before. Called when ``ifn_plugin`` is imported.
    """
    if not _KNOWS_SAFE_GLOBALS:
        return
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    allowed: list[Any] = [HistoryBuffer, np.ndarray, np.dtype, (_history_buffer_method, 'builtins.getattr')]
    allowed += [type(np.dtype(kind)) for kind in ('?bhilqBHILQefdg')]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # the name before and since numpy 2
        allowed += [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
    torch.serialization.add_safe_globals(allowed)


def load_checkpoint_file(source: str | Path, map_location: str = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        source: A file, a URL, or ``torchvision://vgg16``.
        map_location: Device for the tensors.

    Returns:
        The checkpoint's dictionary.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be downloaded.
        ValueError: If it is damaged, no dictionary, or wants anything but tensors and mmengine's log values.
    """
    source = str(source)
    url = VGG16_URL if source == 'torchvision://vgg16' else source
    if url.startswith('torchvision://'):
        raise ValueError(f'{source}: the encoder of IFN is VGG16, so only torchvision://vgg16 fits.')
    try:
        if url.startswith(('http://', 'https://')):
            content = _download(url, map_location)
        else:
            content = torch.load(url, map_location=map_location, weights_only=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise FileNotFoundError(
            f'{url} cannot be downloaded ({error}). Download it where there is a network and name the file: '
            "backbone.init_cfg=dict(type='Pretrained', checkpoint='/path/to/file.pth').") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{source}: no such checkpoint.') from error
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        old = '' if _KNOWS_SAFE_GLOBALS else ' (torch before 2.6 reads files of plain tensors only)'
        raise ValueError(f'{source} is no checkpoint that can be read safely{old}: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{source} holds a {type(content).__name__}, not a dictionary of weights.')
    return content


def _download(url: str, map_location: str) -> Any:
    """Load from torch's cache; what is not there is downloaded by one process of each machine."""

    def load() -> Any:
        return torch.hub.load_state_dict_from_url(
            url, map_location=map_location, check_hash=url == VGG16_URL, weights_only=True)

    first = dist.get_local_rank() == 0
    content = load() if first else None
    dist.barrier()
    return content if first else load()


def get_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint: its ``state_dict`` where it has one, itself otherwise, without ``module.``."""
    state_dict = checkpoint.get('state_dict', checkpoint)
    return {key.removeprefix('module.'): value for key, value in state_dict.items() if isinstance(value, Tensor)}


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
    wanted = model.features.state_dict()
    faults = [f'features.{key} is missing' for key in wanted if key not in found]
    faults += [f'features.{key} is {tuple(found[key].shape)}, not {tuple(wanted[key].shape)}'
               for key in wanted if key in found and found[key].shape != wanted[key].shape]
    faults += [f'features.{key} is none of those of VGG16' for key in found if key not in wanted]
    if faults:
        more = f' and {len(faults) - 8} more' if len(faults) > 8 else ''
        raise ValueError(f'{source} does not fit the encoder of IFN (VGG16, {model.in_channels} channels): '
                         f'{"; ".join(faults[:8])}{more}. Nothing was loaded.')
    model.features.load_state_dict(found)
    print_log(f'Loaded the encoder of IFN from {source}', 'current')


def _names_elsewhere() -> Iterator[tuple[str, str]]:
    """The network's modules as the official implementation and open-cd name them, each with the plugin's name."""
    for index in range(30):
        for encoder in ('t1_base', 't2_base', 'encoder1', 'encoder2'):
            yield f'{encoder}.features.{index}', f'backbone.features.{index}'
    for number in range(1, 6):  # coarse to fine
        level = f'decode_head.levels.{number - 1}'
        blocks = 2 if number == 1 else 3
        for block in range(blocks):
            for part in range(3):
                yield f'o{number}_conv{block + 1}.{part}', f'{level}.blocks.{block}.{part}'
        yield f'bn_sa{number}', f'{level}.norm'
        yield f'trans_conv{number}', f'decode_head.levels.{number}.upsample'
        yield f'sa{number}.conv1', f'{level}.spatial_attention.conv'
        yield f'sa{number}.conv.seq.1', f'{level}.spatial_attention.conv'
        for wrapper in ('', '.seq.0'):
            yield f'o{number}_conv{blocks + 1}{wrapper}', f'{level}.logit'
            if number > 1:
                yield f'ca{number}.fc1{wrapper}', f'{level}.channel_attention.fc1'
                yield f'ca{number}.fc2{wrapper}', f'{level}.channel_attention.fc2'


_RENAME = dict(_names_elsewhere())
# Layers that the other implementations have but never use, and normalization constants
_UNUSED = re.compile(r'(backbone\.)?(ca1|bn_ca1|bn_ca2|data_preprocessor)\.')


@lru_cache
def _detector_keys() -> frozenset[str]:
    from .models import IFN, IFNHead  # models import this module

    with torch.device('meta'):
        return frozenset(torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead())).state_dict())


def convert_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Bring the weights of an IFN to the names of a detector with ``ifn_plugin.IFN`` and ``ifn_plugin.IFNHead``.

    Args:
        state_dict: Weights, or a checkpoint that holds them under ``state_dict``, of the official DSIFN, of open-cd's
            IFN (with or without ``backbone.``), or of the plugin itself.

    Returns:
        All of ``backbone.features.…`` and ``decode_head.levels.…``; layers that the other projects never use are left
        out.

    Raises:
        ValueError: For keys that are none of IFN's, missing ones, or two encoders that differ: the keys are named.
    """
    converted: dict[str, Tensor] = {}
    for key, value in get_state_dict(state_dict).items():
        if _UNUSED.match(key):
            continue
        module, _, parameter = key.rpartition('.')
        module = _RENAME.get(module.removeprefix('backbone.'), module)
        name = f'{module}.{parameter}'
        if name in converted and not torch.equal(converted[name], value):
            raise ValueError(f"{key} differs from the other date's encoder, but IFN has one encoder for both dates.")
        converted[name] = value
    unknown = sorted(converted.keys() - _detector_keys())
    missing = sorted(_detector_keys() - converted.keys())
    if unknown or missing:
        lists = ' '.join(_list_keys(unknown=unknown, missing=missing))
        raise ValueError(f'These are not the weights of an IFN. {lists}')
    return converted


def _list_keys(**groups: list[str]) -> Iterator[str]:
    for name, keys in groups.items():
        if keys:
            more = f' and {len(keys) - 8} more' if len(keys) > 8 else ''
            yield f'{name.capitalize()}: {", ".join(keys[:8])}{more}.'
