"""Finds out whether a function exists, and by which tokens it keeps order: from running instances, else from the code at hand.

The code may be older or newer than the instances, and the instances count.
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


class FoundFunction(Struct, frozen=True):
    """What is known of a function."""

    positions: tuple[Positions, ...]
    """The indexes of the tokens by which the function keeps order; several if instances differ, and none if it keeps no order."""
    somewhere: bool
    """Whether an instance or the code at hand has the function; true also if neither could be asked."""


class Whereabouts:
    """The functions of one project; instances are asked once, and the code is imported only if none of them has the function."""

    def __init__(self, connection: Connection, root: Path, project: str) -> None:
        self._connection = connection
        self._root = root
        self._project = project
        self._code: dict[str, Positions] | None = None
        self._snapshots: list[dict[str, Any]] | None = None
        self._loaded = False

    async def find(self, function: str, expected: Positions) -> FoundFunction:
        """What is known of a function that should keep order by these tokens."""
        snapshots = await self._ask()
        live = [facts for each in snapshots if (facts := _of(each, function)) is not None]
        if live:
            return FoundFunction(
                tuple(positions for facts in live if (positions := _read(facts, expected))), True
            )
        known = self._load()
        if known is None:
            return FoundFunction((expected,), somewhere=not snapshots)
        return FoundFunction((known[function],) if known.get(function) else (), function in known)

    def _load(self) -> dict[str, Positions] | None:
        """By function of the code, the indexes of the tokens by which it keeps order; None if the code cannot be imported."""
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
    """The tokens by which an instance's function keeps order; `expected` for an instance of an earlier release, which does not say."""
    return tuple(facts.get("key_positions", expected))
