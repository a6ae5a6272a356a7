"""What the plugin stands on, checked once at import so that a missing part is one sentence and not a traceback."""

import re
from importlib import metadata

from packaging.version import Version

# distribution -> lowest and first excluded version; either distribution of a tuple will do, the first is recommended
REQUIRED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (('torch', ), '2.1', '3'),
    (('mmengine', 'onedl-mmengine'), '0.10.4', '1'),
    (('mmcv-lite', 'mmcv', 'onedl-mmcv'), '2.0.0', '3'),
    (('onedl-mmsegmentation', 'mmsegmentation'), '1.2.0', '2'),
)

CURE_MMSEG = 'pip install "ifn_plugin[mmseg]"'

CURE_OPENCD = 'open-cd: follow https://github.com/likyoo/open-cd#installation'


class StackError(RuntimeError):
    """The packages below the plugin are missing or do not fit.

    Not an ``ImportError``: mmengine's ``custom_imports`` replaces those by a sentence that does not say what to do.
    """


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_stack() -> None:
    """Raise :class:`StackError`, with the command that cures it, where the stack is missing or does not fit."""
    cure = f'Cure: {CURE_MMSEG} for mmsegmentation alone, or for {CURE_OPENCD}.'
    for names, lowest, too_new in REQUIRED:
        found = _installed(names)
        if not found:
            wanted = ' or '.join(names)
            raise StackError(f'ifn_plugin needs {wanted} >={lowest},<{too_new}; it is not installed. {cure}')
        if {'mmsegmentation', 'onedl-mmsegmentation'} <= found.keys():
            raise StackError('mmsegmentation and onedl-mmsegmentation are both installed, and are the same module: one '
                             'has overwritten the other. Cure: pip uninstall both, then install the one you need; '
                             'open-cd needs mmsegmentation.')
        for name, version in found.items():
            if not Version(lowest) <= Version(Version(version).base_version) < Version(too_new):
                raise StackError(f'ifn_plugin needs {name} >={lowest},<{too_new}; {version} is installed. {cure}')
    try:
        import mmseg.models  # noqa: F401
    except (ImportError, AssertionError) as error:
        hint = ('mmsegmentation needs mmcv with its compiled operators, onedl-mmsegmentation works with mmcv-lite. '
                if re.search(r'mmcv\.(_ext|ops)', str(error)) else '')
        reason = str(error).rstrip('.')
        raise StackError(f'mmsegmentation is installed but does not import: {reason}. {hint}{cure}') from error
