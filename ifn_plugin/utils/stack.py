"""Check of the installed dependencies at import, so that a missing one gives one sentence instead of a traceback."""

import re
from importlib import metadata

from packaging.version import Version

# distributions, lowest version and first excluded version; any distribution of a tuple will do, the first is preferred
REQUIRED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (('torch', ), '2.1', '3'),
    (('mmengine', 'onedl-mmengine'), '0.10.4', '1'),
    (('mmcv-lite', 'mmcv', 'onedl-mmcv'), '2.0.0', '3'),
    (('onedl-mmsegmentation', 'mmsegmentation'), '1.2.0', '2'),
)

INSTALL_MMSEG = 'pip install "ifn_plugin[mmseg]"'

INSTALL_OPENCD = 'open-cd: follow https://github.com/likyoo/open-cd#installation'


class StackError(RuntimeError):
    """Error for dependencies that are missing or incompatible.

    Not an ``ImportError``: mmengine's ``custom_imports`` replaces the message of those by one that does not help.
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
    """Check that the dependencies are installed and compatible.

    Raises:
        StackError: If one is not; the message names the command to run.
    """
    fix = f'Fix: {INSTALL_MMSEG} for mmsegmentation alone, or for {INSTALL_OPENCD}.'
    for names, lowest, too_new in REQUIRED:
        found = _installed(names)
        if not found:
            wanted = ' or '.join(names)
            raise StackError(f'ifn_plugin needs {wanted} >={lowest},<{too_new}; it is not installed. {fix}')
        if {'mmsegmentation', 'onedl-mmsegmentation'} <= found.keys():
            raise StackError('mmsegmentation and onedl-mmsegmentation are both installed but share one module: one has '
                             'overwritten the other. Fix: pip uninstall both, then install the one you need; open-cd '
                             'needs mmsegmentation.')
        for name, version in found.items():
            if not Version(lowest) <= Version(Version(version).base_version) < Version(too_new):
                raise StackError(f'ifn_plugin needs {name} >={lowest},<{too_new}; {version} is installed. {fix}')
    try:
        import mmseg.models  # noqa: F401
    except (ImportError, AssertionError) as error:
        hint = ('mmsegmentation needs mmcv with its compiled operators, onedl-mmsegmentation works with mmcv-lite. '
                if re.search(r'mmcv\.(_ext|ops)', str(error)) else '')
        reason = str(error).rstrip('.')
        raise StackError(f'mmsegmentation is installed but cannot be imported: {reason}. {hint}{fix}') from error
