"""Dispatch: which function of a process answers a request that was sent to this instance by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from runner.core.subject import covers, overlaps

T = TypeVar("T")

REMEMBERED = 4_096
"""Most subjects whose function is remembered, so that it need not be searched for."""


class Dispatch(Generic[T]):
    """Finds the function whose pattern matches a subject most specifically: literal tokens win over `*`, and `*` over `>`."""

    def __init__(self, patterns: Mapping[str, T]) -> None:
        self._patterns = sorted(patterns.items(), key=lambda each: _rank(each[0]))
        self._known: dict[bytes, T] = {}

    def find(self, subject: bytes) -> T | None:
        """Find what answers a subject; None when no pattern covers it."""
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
    """Find the pairs of functions that would answer the same requests; `patterns` has the pattern of each function."""
    names = list(patterns)
    return [
        (one, other)
        for at, one in enumerate(names)
        for other in names[at + 1 :]
        if overlaps(patterns[one], patterns[other])
    ]


def _rank(pattern: str) -> list[int]:
    return [{"*": 1, ">": 2}.get(token, 0) for token in pattern.split(".")]
