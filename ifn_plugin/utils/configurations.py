"""Lookup and reading of configurations, and of the types that they name."""

import copy
import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.runner import Runner

from ifn_plugin.utils.stack import StackError
from ifn_plugin.utils.text import suggest

# what mmengine and test-time augmentation read beside the runner's parameters
_READ_FROM_CFG = ('compile', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model',
                  'tta_pipeline')


def _config_folders() -> tuple[Path, Path]:
    package = Path(__file__).resolve().parents[1]
    # an installed package first: its neighbours in site-packages are not the plugin's
    return package / '.mim' / 'configs', package.parent / 'configs'


def list_configs() -> list[Path]:
    """List the plugin's configurations, in an installed package or in a source checkout.

    Returns:
        The files, sorted by folder and name.
    """
    found = (sorted(folder.glob('[!_]*/*.py')) for folder in _config_folders())
    return next((paths for paths in found if paths), [])


def _own_configs() -> dict[str, Path]:
    return {path.name: path for path in list_configs()}


def find_config(name: str) -> Path:
    """Find one of the plugin's configurations by its file name, in an installed package or in a source checkout.

    Args:
        name: The file name, such as ``'ifn_256x256_40k_levircd.py'``.

    Returns:
        The file, for ``Config.fromfile`` or as a ``_base_``.

    Raises:
        FileNotFoundError: If there is none of that name; the message suggests similar names.
    """
    paths = _own_configs()
    if name in paths:
        return paths[name]
    where = ' or '.join(str(folder) for folder in _config_folders())
    raise FileNotFoundError(f'{name}: no such configuration in {where}.{suggest(name, paths)}')


def resolve_config(config: str | Path) -> Path:
    """Turn a file, or the name of one of the plugin's own configurations, into a path.

    Raises:
        FileNotFoundError: If it is neither; the message suggests similar names.
    """
    path = Path(config)
    if path.is_file():
        return path
    own = _own_configs()
    if str(config) in own:
        return own[str(config)]
    beside = [str(file) for file in path.parent.glob('*.py')]
    hint = suggest(str(config), beside) or suggest(path.name, own) or ' Fix: python -m ifn_plugin lists them.'
    raise FileNotFoundError(f"{config}: no such file, and none of the plugin's own configurations.{hint}")


def read_config(config: str | Path) -> Config:
    """Read a configuration.

    Args:
        config: As for :func:`resolve_config`.

    Raises:
        FileNotFoundError: If there is no such configuration.
        ValueError: If it cannot be read; the message names the file and the reason in one line.
    """
    path = resolve_config(config)
    try:
        return Config.fromfile(path)
    except StackError:
        raise
    except Exception as error:  # a configuration is Python code, which can raise anything
        raise ValueError(f'{path}: {type(error).__name__}: {" ".join(str(error).split())}') from error


def format_config(cfg: Config) -> str:
    """Return the text of a configuration; unlike mmengine's, it can be read again if numbers are not finite."""
    text = str(cfg.pretty_text)
    if not re.search(r'\b(inf|nan)\b', text):
        return text
    return f"inf, nan = float('inf'), float('nan')\n{text}\ndel inf, nan\n"


def parse_config(text: str) -> Config:
    """Read the text of a complete configuration, without importing the packages that it names.

    Raises:
        ValueError: If it cannot be read.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, 'config.py')
        path.write_text(text, encoding='utf-8')
        try:
            return Config.fromfile(path, import_custom_modules=False)
        except Exception as error:  # a configuration is Python code, which can raise anything
            raise ValueError(f'{type(error).__name__}: {error}') from error


def detector_settings(cfg: Config) -> Any:
    """Return a copy of the settings of a configuration's detector, without what wraps it in a test with augmentation.

    A preprocessor that stands beside the model belongs to it, as in mmengine's runner. mmseg's detectors write into the
    settings from which they are built, and refuse them the second time.

    Raises:
        ValueError: If the configuration has no model.
    """
    model = cfg.get('model')
    if not isinstance(model, dict):
        raise ValueError(f'{cfg.filename} has no model.')
    settings = copy.deepcopy(model.get('module') or model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    return settings


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Override settings of a configuration, as ``--cfg-options`` does.

    mmengine would also take options that change nothing: misspelt ones, and variables of the file, such as
    ``data_root``, whose value the settings already have.

    Args:
        cfg: The configuration.
        options: Settings by their dotted names, such as ``'param_scheduler.0.end'``.

    Raises:
        ValueError: If an option is known to change nothing, or does not fit the configuration.
    """
    read = {*inspect.signature(Runner).parameters, *_READ_FROM_CFG}
    if 'data_preprocessor' in (cfg.get('model') or {}):  # the runner leaves it as it is
        read.remove('data_preprocessor')
    for key, value in options.items():
        name, dot, rest = key.partition('.')
        if name in read:
            continue
        if name not in cfg:
            known, element = {*cfg, *read}, name.partition('[')[0]
            hint = (f' Fix: an element of a list is {element}.NUMBER, counted from 0.' if element in known
                    else suggest(name, known))
            raise ValueError(f'{key}={value}: no such setting in {cfg.filename}.{hint}')
        used = [place + dot + rest for top in read & {*cfg} for place in _find(cfg[name], cfg[top], top)]
        if used and isinstance(cfg[name], (str, list, tuple, dict)):  # many settings may have the same number
            raise ValueError(f'{key}={value} changes nothing: {name} is a variable of {cfg.filename}, whose value has '
                             f'already been used. Fix: set {", ".join(sorted(used))}.')
        print_log(f'{key}={value} has an effect only if code of yours reads {name}: mmengine does not. Where it is a '
                  'variable of the file, set what it is used for.', 'current', logging.WARNING)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise ValueError(f'{cfg.filename}: {error.args[0]}') from error


def _find(value: Any, settings: Any, place: str) -> Iterator[str]:
    # the dotted names of the settings that have this value
    if settings == value:
        yield place
    elif isinstance(settings, (dict, list, tuple)):
        for key, inner in settings.items() if isinstance(settings, dict) else enumerate(settings):
            yield from _find(value, inner, f'{place}.{key}')


def resolve_type(kind: Any, registry: Registry) -> Any:
    """Resolve a ``type`` of a configuration.

    Args:
        kind: A name, with or without scope, or the dotted path of a class; or, as in mmengine's pure Python style, the
            class itself or its lazy object.
        registry: The registry of the names: mmengine's, or mmseg's for names of mmseg without scope.

    Returns:
        The class or function; ``None`` if there is none of that name.
    """
    if isinstance(kind, (LazyObject, LazyAttr)):
        kind = kind.build()
    return registry.get(kind) if isinstance(kind, str) else kind


def registry_of(cfg: Config, registry: Registry) -> Registry:
    """Return the registry in which a configuration's names without scope are looked up, that of its default scope.

    Args:
        cfg: The configuration.
        registry: mmengine's registry.
    """
    with registry.switch_scope_and_registry(cfg.get('default_scope') or 'mmseg') as found:
        return found


def is_type(kind: Any, registry: Registry, *wanted: type) -> bool:
    """Return whether a ``type`` of a configuration is one of these classes or a subclass.

    Args:
        kind: As for :func:`resolve_type`.
        registry: As for :func:`resolve_type`.
        wanted: The classes.
    """
    found = resolve_type(kind, registry)
    return isinstance(found, type) and issubclass(found, wanted)


def type_name(kind: Any) -> str:
    """Return the name of a ``type`` without scope or module, whether or not it can be imported.

    Args:
        kind: As for :func:`resolve_type`.
    """
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    return name.rpartition('.')[2]
