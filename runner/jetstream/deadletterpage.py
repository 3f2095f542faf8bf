"""Pages of dead letters: each is one request to the server's direct get, with many messages as its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from runner.core import checked, deadletter, header, identity
from runner.core.deadletter import DeadLetter
from runner.errors import NoResponders, ServerError, Unconfirmed
from runner.jetstream.connection import Connection
from runner.jetstream.messages import nanoseconds, timestamp
from runner.jetstream.ownstreams import DEADLETTERS
from runner.jetstream.server import until_led

PAGE = 256
ANSWER_SECONDS = 5.0
ALL = identity.dead_subject("*", "*")
ASKED = f"$JS.API.DIRECT.GET.{DEADLETTERS}"

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
"""Headers that the server adds to the messages it returns."""


class StoredDeadLetter(Struct, frozen=True):
    """A dead letter, with what is needed to send it back."""

    letter: DeadLetter
    pairs: list[tuple[str, str]]
    """All its stored headers, its own and the original's, except for the Msg-Id of the dead letter."""
    stored_ns: int


class DeadLetterPage(Struct):
    """The dead letters of one answer."""

    letters: list[StoredDeadLetter]
    last: int = 0
    """The highest sequence in the answer, also of letters that were not wanted; 0 for an empty page."""


async def read_page(
    connection: Connection, ask: dict[str, Any], wanted: Callable[[bytes], bool] | None = None
) -> DeadLetterPage:
    """Ask the server for a page; only letters whose header block is `wanted` are read. A stream that is not there has empty pages.

    A stream without a leader is waited for. Raises `ServerError` and `Unconfirmed`.
    """
    try:
        return await until_led(connection, DEADLETTERS, ALL, partial(_asked, connection, ask, wanted))
    except NoResponders:
        return DeadLetterPage([])


async def _asked(
    connection: Connection, ask: dict[str, Any], wanted: Callable[[bytes], bool] | None
) -> DeadLetterPage:
    page = DeadLetterPage([])
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
        connection.wire.publish(ASKED.encode(), msgspec.json.encode(ask), inbox.encode())
        async with asyncio.timeout(ANSWER_SECONDS):
            status = await end
    except TimeoutError:
        raise Unconfirmed(
            f"no answer came for the dead letters of {ask.get('next_by_subj', DEADLETTERS)}"
        ) from None
    finally:
        with suppress(OSError):
            await unsubscribe()
    if status is not None and status[0] == 503:
        raise NoResponders(f"nobody answers on {ASKED}")
    if status is not None and status[0] not in (204, 404):
        raise ServerError(f"dead letters cannot be read: {status[1]}")
    return page


async def pages(
    connection: Connection, subject: str, since_ns: int = 0, wanted: Callable[[bytes], bool] | None = None
) -> AsyncIterator[DeadLetterPage]:
    """All pages of dead letters of a subject, oldest first, from those stored at `since_ns` on."""
    ask: dict[str, Any] = {"batch": PAGE, "next_by_subj": subject}
    ask |= {"start_time": timestamp(since_ns)} if since_ns else {"seq": 1}
    while True:
        page = await read_page(connection, ask, wanted)
        yield page
        if not page.last:
            return
        ask.pop("start_time", None)
        ask["seq"] = page.last + 1


def read(block: bytes, body: bytes) -> StoredDeadLetter:
    """Read a dead letter, with the headers that the server has added."""
    told = {name.lower(): value for name, value in header.pairs(block) if name.lower() in _ADDED}
    pairs = [pair for pair in header.pairs(block) if pair[0].lower() not in {*_ADDED, "nats-msg-id"}]
    time = told.get("nats-time-stamp", "")
    named: dict[str, str] = {}
    repeated = tuple((name, value) for name, value in pairs if named.setdefault(name, value) is not value)
    letter = deadletter.read(named, body, checked.number(told.get("nats-sequence", "")) or 0, time, repeated)
    return StoredDeadLetter(letter, pairs, nanoseconds(time))
