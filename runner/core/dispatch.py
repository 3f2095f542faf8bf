"""Dispatch: which of a process's functions answers a subject that was asked of this instance, not of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from runner.core.subject import covers, overlaps

T = TypeVar("T")

REMEMBERED = 4_096
"""Subjects whose function is known without a search."""


class Dispatch(Generic[T]):
    """From subjects to what stands behind the pattern that says most of them: literal tokens go before `*`, and `*` before `>`."""

    def __init__(self, patterns: Mapping[str, T]) -> None:
        self._patterns = sorted(patterns.items(), key=lambda each: _rank(each[0]))
        self._known: dict[bytes, T] = {}

    def find(self, subject: bytes) -> T | None:
        """What answers a subject; None where no pattern covers it."""
        found = self._known.get(subject)
        if found is not None:
            return found
        text = subject.decode("utf-8", "surrogateescape")
        for pattern, answers in self._patterns:
            if covers(pattern, text):
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[subject] = answers
                return answers
        return None


def clashes(patterns: Mapping[str, str]) -> list[tuple[str, str]]:
    """The functions, each two, that would answer the same requests; `patterns` are those of each function."""
    names = list(patterns)
    return [
        (one, other)
        for at, one in enumerate(names)
        for other in names[at + 1 :]
        if overlaps(patterns[one], patterns[other])
    ]


def _rank(pattern: str) -> list[int]:
    return [{"*": 1, ">": 2}.get(token, 0) for token in pattern.split(".")]
