"""Pages of dead letters: one question of the server's direct get, whose answer is many messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from runner.core import checked, deadletter, header
from runner.core.deadletter import DeadLetter
from runner.errors import ServerError, Unconfirmed
from runner.jetstream.connection import Connection
from runner.jetstream.messages import nanoseconds, timestamp
from runner.jetstream.ownstreams import DEADLETTERS

PAGE = 256
ANSWER_SECONDS = 5.0

_ADDED = frozenset(
    f"nats-{name}"
    for name in (
        "stream",
        "subject",
        "sequence",
        "time-stamp",
        "num-pending",
        "last-sequence",
        "upto-sequence",
    )
)
"""Headers that the server adds to what it is asked for."""


class Stored(Struct, frozen=True):
    """A dead letter with what sending it back needs."""

    letter: DeadLetter
    pairs: list[tuple[str, str]]
    """Every header it is stored with, its own and the original's, but for the Msg-Id of the dead letter."""
    stored_ns: int


class Page(Struct):
    """What one answer brought."""

    letters: list[Stored]
    last: int = 0
    """The highest sequence in it, of those that were not wanted, too; 0 for an empty page."""


async def read_page(
    connection: Connection, ask: dict[str, Any], wanted: Callable[[bytes], bool] | None = None
) -> Page:
    """Ask the server; only those whose header block is `wanted` are read. Raises `ServerError` and `Unconfirmed`."""
    page = Page([])
    end = asyncio.get_running_loop().create_future()
    single = "batch" not in ask

    def arrived(subject: bytes, reply: bytes, block: bytes | None, body: bytes) -> None:
        told = header.last(block, b"Nats-Sequence") if block is not None else None
        status = None if told is not None else header.status(block or b"")
        if told is not None and block is not None:
            page.last = max(page.last, checked.number(told) or 0)
            if wanted is None or wanted(block):
                page.letters.append(read(block, body))
        if (status is not None or single) and not end.done():
            end.set_result(status)

    inbox = connection.new_inbox()
    unsubscribe = await connection.wire.subscribe(inbox, arrived)
    try:
        connection.wire.publish(
            f"$JS.API.DIRECT.GET.{DEADLETTERS}".encode(), msgspec.json.encode(ask), inbox.encode()
        )
        async with asyncio.timeout(ANSWER_SECONDS):
            status = await end
    except TimeoutError:
        raise Unconfirmed(
            f"no answer came for the dead letters of {ask.get('next_by_subj', DEADLETTERS)}"
        ) from None
    finally:
        with suppress(OSError):
            await unsubscribe()
    if status is not None and status[0] not in (204, 404, 503):
        raise ServerError(f"dead letters cannot be read: {status[1]}")
    return page


async def pages(
    connection: Connection, subject: str, since_ns: int = 0, wanted: Callable[[bytes], bool] | None = None
) -> AsyncIterator[Page]:
    """All pages with the dead letters of a subject, the oldest first, from those on that were stored at `since_ns`."""
    ask: dict[str, Any] = {"batch": PAGE, "next_by_subj": subject}
    ask |= {"start_time": timestamp(since_ns)} if since_ns else {"seq": 1}
    while True:
        page = await read_page(connection, ask, wanted)
        yield page
        if not page.last:
            return
        ask.pop("start_time", None)
        ask["seq"] = page.last + 1


def read(block: bytes, body: bytes) -> Stored:
    """Read one, with what the server has added to its headers."""
    told = {name.lower(): value for name, value in header.pairs(block) if name.lower() in _ADDED}
    pairs = [pair for pair in header.pairs(block) if pair[0].lower() not in {*_ADDED, "nats-msg-id"}]
    time = told.get("nats-time-stamp", "")
    named: dict[str, str] = {}
    repeated = tuple((name, value) for name, value in pairs if named.setdefault(name, value) is not value)
    letter = deadletter.read(named, body, checked.number(told.get("nats-sequence", "")) or 0, time, repeated)
    return Stored(letter, pairs, nanoseconds(time))
