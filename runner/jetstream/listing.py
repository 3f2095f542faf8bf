"""What the server lists, and what it could not tell of.

A leader of JetStream that has just lost the other servers still answers for about 9 s: after 4 s with what it knows by
itself, and the names of the rest under `missing`. So it does of one that is being made in that moment, and, for as long
as this lasts, of a stream with one replica whose server is away.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from runner.errors import Incomplete
from runner.jetstream.connection import Connection

MOST_NAMES = 3
UNNAMED = "others"


class Listing(Struct, frozen=True):
    """Items by name, as far as the server could tell."""

    what: str
    told: dict[str, dict[str, Any]]
    lacking: tuple[str, ...] = ()
    """Names of what is there and was not told; nothing may be concluded from its absence."""

    def whole(self) -> dict[str, dict[str, Any]]:
        """All that there is. Raises `Incomplete` when something was not told."""
        if self.lacking:
            raise incomplete(self.what, self.lacking)
        return self.told


def incomplete(what: str, lacking: tuple[str, ...], so: str = "") -> Incomplete:
    """The error when something hangs on what was not told; `so` says what is not known for want of it."""
    names = ", ".join(lacking[:MOST_NAMES]) + (", …" if len(lacking) > MOST_NAMES else "")
    return Incomplete(
        f"{so}{': ' if so else ''}the server cannot tell of the {what} {names} now",
        hint="their servers are away, or choose a leader: try again when these are back",
    )


async def listed(connection: Connection, request: str, what: str) -> Listing:
    """What `STREAM.LIST` or `CONSUMER.LIST.<stream>` tells of `what`: streams, or consumers."""
    told: dict[str, dict[str, Any]] = {}
    lacking: set[str] = set()
    offset = 0
    while True:
        page = await connection.api(request, {"offset": offset})
        items = {item.get("name") or item["config"]["name"]: item for item in page.get(what) or ()}
        untold = {*(page.get("missing") or ()), *(page.get("offline") or ())} - items.keys()
        told |= items
        lacking |= untold
        offset += len(items) + len(untold)
        total = page.get("total", 0)
        if offset >= total or not (items or untold):
            break
    lacking -= told.keys()
    if len(told) + len(lacking) < total:
        lacking.add(UNNAMED)
    return Listing(what, told, tuple(sorted(lacking)))
