"""Where the configurations are that come with the plugin."""

from pathlib import Path


def find_config(name: str) -> Path:
    """Find a configuration of the plugin's own by its file name, in an installed package or in a source checkout.

    Args:
        name: Such as ``'ifn_256x256_40k_levircd.py'``.

    Returns:
        The file, for ``Config.fromfile`` or as a ``_base_``.

    Raises:
        FileNotFoundError: If it is in neither.
    """
    package = Path(__file__).resolve().parent
    # an installed package first: what lies beside it in site-packages is not the plugin's
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
