"""Durables, schedules and records that deleted functions have left on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.core.doctor.finding import Finding
from runner.core.quantity import counted


def of_gone(left: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """Report leftovers; `left` has the number of each kind of thing by function, with the kinds in the singular."""
    for function, things in sorted(left.items()):
        told = ", ".join(counted(count, what) for what, count in things.items() if count)
        if told:
            yield Finding(
                "leftovers",
                "may hurt",
                f"no function is called {function}, and there is of it: {told}",
                "a durable keeps messages in streams with interest retention, a schedule fires for nobody, and a function that gets this "
                "name goes on where that one was",
                f"runner function forget {function}; or, where it has another name now, renamed_from={function!r}",
            )
