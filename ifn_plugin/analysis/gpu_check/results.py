"""Results of a part; a failed measurement does not stop the others."""

import traceback
from collections.abc import Callable
from typing import Any


def reason(error: Exception) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
