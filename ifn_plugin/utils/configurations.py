"""Lookup and reading of configurations, and of the types that they name."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry

from ifn_plugin.utils.stack import StackError


def find_config(name: str) -> Path:
    """Find one of the plugin's configurations by its file name, in an installed package or in a source checkout.

    Args:
        name: The file name, such as ``'ifn_256x256_40k_levircd.py'``.

    Returns:
        The file, for ``Config.fromfile`` or as a ``_base_``.

    Raises:
        FileNotFoundError: If it is in neither.
    """
    package = Path(__file__).resolve().parents[1]
    # an installed package first: its neighbours in site-packages are not the plugin's
    folders = (package / '.mim' / 'configs', package.parent / 'configs')
    for folder in folders:
        for path in folder.glob('[!_]*/*.py'):
            if path.name == name:
                return path
    raise FileNotFoundError(f'{name}: no such configuration in {folders[0]} or {folders[1]}.')


def resolve_config(config: str | Path) -> Path:
    """Turn a file, or the name of one of the plugin's own configurations, into a path.

    Raises:
        FileNotFoundError: If it is neither.
    """
    path = Path(config)
    if path.is_file():
        return path
    try:
        return find_config(str(config))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{config}: no such file, and none of the plugin's own configurations.") from error


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
