"""Finds messages of a stream by their key, by a header, or by the time they were stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from runner.core import header, sharding
from runner.errors import ServerError
from runner.jetstream.connection import Connection
from runner.jetstream.messages import StoredMessage, one_by_one, pages, timestamp
from runner.jetstream.readers import KnownFunction

PAGE = 256
PAGE_BYTES = 8 << 20
READ = 20_000
"""Most messages that one search looks at."""
ONE_BY_ONE = 500
"""Most messages that one search looks at in a stream that does not give several at once."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which messages a search looks for."""

    key: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    since: datetime | None = None
    limit: int = 10

    def takes(self, stored: StoredMessage, positions: Sequence[tuple[int, ...]]) -> bool:
        """Whether a message is wanted; `positions` are the indexes of the tokens that make the keys of each function."""
        if self.key and not self._has_key(sharding.original(stored.subject), positions):
            return False
        pairs = header.pairs(stored.header or b"") if self.headers else []
        return all(
            any(name.lower() == each.lower() and value == text for each, text in pairs)
            for name, value in self.headers
        )

    def _has_key(self, subject: str, positions: Sequence[tuple[int, ...]]) -> bool:
        for each in positions:
            try:
                if sharding.key(subject, each) == self.key:
                    return True
            except ValueError:
                continue
        return f".{self.key}." in f".{subject}."


class FoundMessages(Struct, frozen=True):
    """The messages that a search has found, and where it ended."""

    messages: list[StoredMessage]
    looked: int
    """How many messages were looked at."""
    last: int
    """The sequence of the last message that was looked at."""
    whole: bool
    """Whether the end of the stream was reached."""


async def find(
    connection: Connection, stream: str, wanted: Wanted, known: Sequence[KnownFunction]
) -> FoundMessages:
    """The first wanted messages, the oldest first; the search is bounded."""
    positions = [each.key_positions for each in known if each.key_positions]
    ask: dict[str, Any] = {"batch": PAGE, "max_bytes": PAGE_BYTES, "next_by_subj": ">"}
    ask |= {"start_time": timestamp(int(wanted.since.timestamp() * 1e9))} if wanted.since else {"seq": 1}
    found: list[StoredMessage] = []
    looked = last = 0
    whole = False
    try:
        async for page, whole in pages(connection, stream, ask):  # noqa: B007  used below
            for stored in page:
                looked, last = looked + 1, stored.sequence
                if wanted.takes(stored, positions):
                    found.append(stored)
                    if len(found) >= wanted.limit:
                        return FoundMessages(found, looked, last, whole=False)
            if looked >= READ:
                break
    except ServerError:
        return await _one_by_one(connection, stream, wanted, positions)
    return FoundMessages(found, looked, last, whole=whole)


async def _one_by_one(
    connection: Connection, stream: str, wanted: Wanted, positions: Sequence[tuple[int, ...]]
) -> FoundMessages:
    """The same search, one message at a time from the stream's leader: the stream allows no direct reads."""
    since_ns = int(wanted.since.timestamp() * 1e9) if wanted.since is not None else None
    found: list[StoredMessage] = []
    looked = last = 0
    async for stored in one_by_one(connection, stream, ">", since_ns):
        looked, last = looked + 1, stored.sequence
        if wanted.takes(stored, positions):
            found.append(stored)
        if looked == ONE_BY_ONE or len(found) == wanted.limit:
            return FoundMessages(found, looked, last, whole=False)
    return FoundMessages(found, looked, last, whole=True)
