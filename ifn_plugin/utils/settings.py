"""Checks of settings."""

from typing import Any


def check_switches(**settings: Any) -> None:
    """Refuse switches that are neither ``True`` nor ``False``: whatever is not empty or 0 would switch them on.

    Raises:
        ValueError: With the setting and its value.
    """
    for name, value in settings.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name}={value!r} is a switch. Fix: {name}=True or {name}=False.')
