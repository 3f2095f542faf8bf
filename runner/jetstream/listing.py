"""Lists of the server, and the names that it could not tell of.

A JetStream leader that has just lost the other servers still answers for about 9 s. After 4 s it answers with what it knows by
itself, and has the names of the rest under `missing`. It does the same for an item that is just being made, and for a stream with
one replica for as long as its server is down.
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
    """Names of items that exist but were not told; nothing may be concluded from their absence."""

    def whole(self) -> dict[str, dict[str, Any]]:
        """All items. Raises `Incomplete` if some were not told."""
        if self.lacking:
            raise incomplete(self.what, self.lacking)
        return self.told


def incomplete(what: str, lacking: tuple[str, ...], so: str = "") -> Incomplete:
    """The error for a question that needs items that were not told; `so` says what is unknown without them."""
    names = ", ".join(lacking[:MOST_NAMES]) + (", …" if len(lacking) > MOST_NAMES else "")
    return Incomplete(
        f"{so}{': ' if so else ''}the server cannot tell of the {what} {names} now",
        hint="their servers are away, or choose a leader: try again when these are back",
    )


async def listed(connection: Connection, request: str, what: str) -> Listing:
    """The list that `STREAM.LIST` or `CONSUMER.LIST.<stream>` gives of `what`: streams or consumers."""
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
