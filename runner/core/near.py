"""The known word that a misspelt one was perhaps meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The closest, whatever the case of its letters; empty when none is close."""
    spelt = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), spelt, 1)
    return spelt[close[0]] if close else ""


def guess(word: str, known: Iterable[str]) -> str:
    """The same as the end of a sentence."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
