"""Texts of exceptions. Foreign code makes them, so `str()` may raise, or give any length and any characters."""

from __future__ import annotations

from runner.core import shown

LONGEST = 4_096
"""Most characters of a message."""
LONGEST_NAME = 200
LONGEST_LINE = 500
MUTE = "(its __str__ raised)"


def text(error: BaseException) -> str:
    """The exception's own text, cut to `LONGEST` characters; never raises."""
    try:
        said = str(error)
        # A `__str__` may return a subclass of `str` with methods of its own; the slice by `str` is a plain text.
        return _cut(str.__getitem__(said, slice(LONGEST + 1)), LONGEST)
    except BaseException:  # noqa: BLE001  whatever `__str__` raises, the message whose handler has failed is settled
        return MUTE


def message(error: BaseException) -> str:
    """The exception's text as one line, for a terminal or a log."""
    return _line(text(error), LONGEST)


def name(error: BaseException) -> str:
    """The name of the exception's type."""
    return _line(str(type.__dict__["__name__"].__get__(type(error))), LONGEST_NAME)


def line(error: BaseException, longest: int = LONGEST_LINE) -> str:
    """Type and text of an exception in one line."""
    said = message(error)
    return _line(f"{name(error)}: {said}" if said else name(error), longest)


def _line(words: str, longest: int) -> str:
    return _cut(shown.line(" ".join(words.split())), longest)


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"
