"""Validation of settings."""

from typing import Any


def check_switches(**settings: Any) -> None:
    """Reject switches that are neither ``True`` nor ``False``, since any other non-empty value would count as ``True``.

    Raises:
        ValueError: If one is not; the message names the setting and its value.
    """
    for name, value in settings.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name}={value!r} is not a Boolean. Fix: {name}=True or {name}=False.')
