"""What an exception says of itself. That is code and text of others: it may raise, and be of any length and any characters."""

from __future__ import annotations

from runner.core import shown

LONGEST = 4_096
"""Characters of a message."""
LONGEST_NAME = 200
LONGEST_LINE = 500
MUTE = "(its __str__ raised)"


def text(error: BaseException) -> str:
    """Its own words as they are, cut where they are longer than `LONGEST`; never raises."""
    try:
        said = str(error)
        # A `__str__` may return a text whose own methods are the user's: sliced by `str`, it is a plain one.
        return _cut(str.__getitem__(said, slice(LONGEST + 1)), LONGEST)
    except BaseException:  # noqa: BLE001  whatever `__str__` raises, the message whose handler has failed is settled
        return MUTE


def message(error: BaseException) -> str:
    """Its words as one line, for a terminal or a log."""
    return _line(text(error), LONGEST)


def name(error: BaseException) -> str:
    """The name of its type."""
    return _line(str(type.__dict__["__name__"].__get__(type(error))), LONGEST_NAME)


def line(error: BaseException, longest: int = LONGEST_LINE) -> str:
    """Type and words in one line."""
    said = message(error)
    return _line(f"{name(error)}: {said}" if said else name(error), longest)


def _line(words: str, longest: int) -> str:
    return _cut(shown.line(" ".join(words.split())), longest)


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"
