"""Spelling: the known word that a misspelt word may be meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Find the closest known word, whatever its case; empty when no word is close."""
    spelt = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), spelt, 1)
    return spelt[close[0]] if close else ""


def guess(word: str, known: Iterable[str]) -> str:
    """Give the closest word as the end of a sentence; empty when no word is close."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
