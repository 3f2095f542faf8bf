"""Finds functions that feed each other in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.bindings import Binding
from runner.core.subject import overlaps


def warnings(functions: Sequence[Binding]) -> Iterator[str]:
    """A warning for each circle of two or more functions; `returns` warns of a function that reads its own output."""
    after = {each.label: [other.label for other in functions if _feeds(each, other)] for each in functions}
    told: set[str] = set()
    for name in after:
        circle = [] if name in told else _shortest(name, after)
        told.update(circle)
        if circle:
            yield (
                f"{' → '.join((*circle, name))}: what they publish comes back to {name}, for ever unless one of them "
                "returns None at some time"
            )


def _feeds(one: Binding, other: Binding) -> bool:
    return (
        one is not other and one.output is not None and overlaps(one.output.wildcard, other.subject.wildcard)
    )


def _shortest(start: str, after: dict[str, list[str]]) -> list[str]:
    """The functions of the shortest circle that begins and ends with `start`; empty if there is none."""
    paths, seen = [[start]], {start}
    for path in paths:
        for name in after[path[-1]]:
            if name == start:
                return path
            if name not in seen:
                seen.add(name)
                paths.append([*path, name])
    return []
