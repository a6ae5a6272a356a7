"""Results of a part; a failed measurement does not stop the others."""

import traceback
from collections.abc import Callable
from typing import Any

from ifn_plugin.utils.text import reason


def attempt(name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a measurement, and turn an error into a result.

    Args:
        name: Name of the measurement, to print.
        measure: Function that returns the result, with a ``line`` to print.

    Returns:
        The result; after an error, ``line`` and ``error``.
    """
    try:
        return measure()
    except Exception as error:  # of any kind: the compiler's or the driver's, for example
        traceback.print_exc()
        return dict(line=f'{name}: FAILED: {reason(error)}', error=reason(error))
