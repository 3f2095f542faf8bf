"""Where a function is, and by which tokens it keeps order: by what runs, else by the code at hand.

The code may be older or newer than what runs, and what runs counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.cli import code
from runner.errors import UsageError
from runner.jetstream.connection import Connection
from runner.runtime.snapshots import collect

Positions = tuple[int, ...]


class Found(Struct, frozen=True):
    """What is known of a function."""

    positions: tuple[Positions, ...]
    """Indexes of the tokens by which it keeps order; several where instances differ, and none for one without order."""
    somewhere: bool
    """Whether an instance or the code at hand has it; also when neither could be asked."""


class Whereabouts:
    """The functions of one project; instances are asked once, and code is imported only where none of them answers."""

    def __init__(self, connection: Connection, root: Path, project: str) -> None:
        self._connection = connection
        self._root = root
        self._project = project
        self._code: dict[str, Positions] | None = None
        self._snapshots: list[dict[str, Any]] | None = None
        self._loaded = False

    async def find(self, function: str, expected: Positions) -> Found:
        """What is known of a function that should keep order by these tokens."""
        snapshots = await self._ask()
        live = [facts for each in snapshots if (facts := _of(each, function)) is not None]
        if live:
            return Found(tuple(positions for facts in live if (positions := _read(facts, expected))), True)
        known = self._load()
        if known is None:
            return Found((expected,), somewhere=not snapshots)
        return Found((known[function],) if known.get(function) else (), function in known)

    def _load(self) -> dict[str, Positions] | None:
        """The code's functions; None where it cannot be imported."""
        if not self._loaded:
            self._loaded = True
            try:
                found = code.load(self._root, self._project).functions
            except UsageError:
                return None
            self._code = {each.function: each.key_positions for each in found}
        return self._code

    async def _ask(self) -> list[dict[str, Any]]:
        if self._snapshots is None:
            self._snapshots = await collect(self._connection, self._project)
        return self._snapshots


def _of(snapshot: Mapping[str, Any], function: str) -> Mapping[str, Any] | None:
    facts: Mapping[str, Any] | None = snapshot["functions"].get(function)
    return facts


def _read(facts: Mapping[str, Any], expected: Positions) -> Positions:
    """An instance of an earlier release does not say."""
    return tuple(facts.get("key_positions", expected))
