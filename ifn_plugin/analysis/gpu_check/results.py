"""Results of a part, of which one that fails leaves the others alone."""

import traceback
from collections.abc import Callable
from typing import Any


def reason(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def attempt(name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure something.

    Args:
        name: What it is, for the reader.
        measure: Gives the result, with a ``line`` for the reader.

    Returns:
        The result; after an error ``line`` and ``error``.
    """
    try:
        return measure()
    except Exception as error:  # whatever it is: a compiler's, a driver's
        traceback.print_exc()
        return dict(line=f'{name}: FAILED: {reason(error)}', error=reason(error))
