"""Formatting of text for messages and pages."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def abbreviate(items: Sequence[object], limit: int, separator: str = ', ') -> str:
    """Join the first items and count the rest: ``'a, b and 3 more'``."""
    more = f' and {len(items) - limit} more' if len(items) > limit else ''
    return separator.join(map(str, items[:limit])) + more


def readable(text: str) -> str:
    """Replace undecodable bytes of a file name by ``?``, so that the text can be written and printed."""
    return text.encode(errors='replace').decode()


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known names closest to a misspelt one: ``' Did you mean a or b?'``, or nothing."""
    close = get_close_matches(name, list(known), cutoff=0.75)
    return f' Did you mean {" or ".join(close)}?' if close else ''


def reason(error: Exception) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
