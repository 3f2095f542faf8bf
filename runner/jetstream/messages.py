"""The messages of a stream, read from its leader: a replica may not know yet what was just stored or removed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from runner.core import checked, header
from runner.errors import NoStream, ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.inbox import MORE_SECONDS

TOO_MANY = 413
NOTHING_THERE = {(codes.DELETE_FAILED, why) for why in ("no message found", "stream store EOF")}
"""The server's errors for a sequence outside of the stream's range (measured on 2.15)."""
_BEHIND_ALL = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StoredMessage(Struct, frozen=True):
    """A message as its stream holds it."""

    sequence: int
    subject: str
    """The subject under which it is stored."""
    header: bytes | None
    """The raw header block; None without headers."""
    body: bytes
    time: str
    """When it was stored, as the server tells it."""

    @property
    def stored_ns(self) -> int:
        """When it was stored, in nanoseconds of Unix time."""
        return nanoseconds(self.time)


async def leader_message(
    connection: Connection, stream: str, ask: dict[str, Any], none: Collection[int] = codes.NO_MESSAGE
) -> StoredMessage | None:
    """The message that `ask` names by `seq`, `last_by_subj` or `next_by_subj`; None if there is none.

    `none` are the error codes that mean this: a missing stream raises `ServerError` unless its code is among them.
    """
    try:
        found = (await connection.api(f"STREAM.MSG.GET.{stream}", ask))["message"]
    except ServerError as error:
        if error.code in none:
            return None
        raise
    try:
        block, body = (base64.b64decode(found.get(field) or "") for field in ("hdrs", "data"))
    except ValueError:
        raise ServerError(f"the message of {stream} that was asked for cannot be read: no base64") from None
    return StoredMessage(found["seq"], found["subject"], block or None, body, found["time"])


async def several(
    connection: Connection, stream: str, request: dict[str, Any]
) -> tuple[list[StoredMessage], int | None]:
    """Many messages by one request to a replica, and the sequence after which there are more; None if there are none.

    `request` is for `$JS.API.DIRECT.GET`, with `multi_last`, or with `next_by_subj` and `batch` (ADR-31). If over 1,024 subjects
    match, the server returns no messages (measured on 2.15): then the sequence is 0. Raises ServerError.
    """
    found: list[StoredMessage] = []
    done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def arrived(_: None, block: bytes | None, body: bytes, error: ServerError | None) -> bool:
        if done.done():
            return False
        if error is not None:
            done.set_exception(error)
            return False
        block = block or b""
        name, number = header.last(block, b"Nats-Subject"), header.last(block, b"Nats-Sequence")
        if name is None or number is None:  # a status; stored headers may begin like one
            done.set_result(block)
            return False
        if sequence := checked.number(number):
            time = header.last(block, b"Nats-Time-Stamp") or b""
            subject = name.decode("utf-8", "surrogateescape")
            found.append(StoredMessage(sequence, subject, block, body, time.decode("ascii", "replace")))
        return True

    subject = f"$JS.API.DIRECT.GET.{stream}".encode()
    reply = connection.inbox.expect(arrived, None, subject, MORE_SECONDS)
    connection.wire.publish(subject, msgspec.json.encode(request), reply)
    try:
        block = await done
    finally:
        connection.inbox.forget(reply)
    code, text = header.status(block) or (0, "")
    if code == TOO_MANY:
        return found, 0
    if code not in (204, 404):
        raise NoStream(f"{stream} does not answer: {code} {text}")
    left = checked.number(header.get(block, b"Nats-Num-Pending") or b"")
    last = checked.number(header.get(block, b"Nats-Last-Sequence") or b"") or 0
    return found, last if left else None


async def pages(
    connection: Connection, stream: str, request: dict[str, Any]
) -> AsyncIterator[tuple[list[StoredMessage], bool]]:
    """Pages of messages by `several`, each with whether it is the last; `request` begins with `seq` or `start_time`."""
    ask = dict(request)
    while True:
        page, after = await several(connection, stream, ask)
        last = after is None or not page
        yield page, last
        if last:
            return
        ask.pop("start_time", None)
        ask["seq"] = page[-1].sequence + 1


async def one_by_one(
    connection: Connection, stream: str, pattern: str, since_ns: int | None = None
) -> AsyncIterator[StoredMessage]:
    """Messages under a pattern of subjects, one by one from the stream's leader, which answers even without direct reads.

    All of them, or those stored from a time on, in nanoseconds of Unix time. No messages without the stream.
    """
    sequence = 1
    if since_ns is not None:
        ask: dict[str, Any] = {"start_time": timestamp(since_ns)}
        first = await leader_message(connection, stream, ask, codes.NOTHING_STORED)
        if first is None:
            return
        sequence = first.sequence
    while True:
        ask = {"seq": sequence, "next_by_subj": pattern}
        stored = await leader_message(connection, stream, ask, codes.NOTHING_STORED)
        if stored is None:
            return
        yield stored
        sequence = stored.sequence + 1


async def subjects(connection: Connection, stream: str, pattern: str) -> AsyncIterator[tuple[str, int]]:
    """All matching subjects, with their numbers of messages; none without the stream. Expensive if there are many."""
    offset = 0
    while True:
        try:
            info = await connection.api(
                f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": offset}
            )
        except ServerError as error:
            if error.code in codes.NOTHING_STORED:
                return
            raise
        page = info["state"].get("subjects") or {}
        for subject, count in page.items():
            yield subject, count
        offset += len(page)
        if not page or offset >= info.get("total", 0):
            return


async def count_subjects(connection: Connection, stream: str, pattern: str) -> int:
    """How many matching subjects have messages, without their names; 0 without the stream."""
    ask = {
        "subjects_filter": pattern,
        "offset": _BEHIND_ALL,
    }  # a page without subjects still tells their number
    try:
        info = await connection.api(f"STREAM.INFO.{stream}", ask)
    except ServerError as error:
        if error.code in codes.NOTHING_STORED:
            return 0
        raise
    return int(info.get("total") or 0)


async def swap(
    connection: Connection,
    subject: str,
    body: bytes,
    sequence: int,
    pairs: Sequence[tuple[str, str]] = (),
) -> int | None:
    """Store a message if the last one of its subject has this sequence (0: none); gives the new sequence, None if it has not."""
    expect = ("Nats-Expected-Last-Subject-Sequence", str(sequence))
    try:
        return (await connection.publisher.publish(subject, body, [expect, *pairs])).seq
    except ServerError as error:
        if error.code == codes.WRONG_LAST_SEQUENCE:
            return None
        raise


async def remove(connection: Connection, stream: str, sequence: int) -> None:
    """Remove a message; no error if it is gone already."""
    try:
        await connection.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
    except ServerError as error:
        if error.code not in codes.NOTHING_STORED and (error.code, str(error)) not in NOTHING_THERE:
            raise


async def purge(connection: Connection, stream: str, pattern: str, through: int | None = None) -> int:
    """Remove the messages under these subjects, up to a sequence if one is given; gives their number.

    Without the stream the number is 0.
    """
    ask: dict[str, Any] = {"filter": pattern}
    if through is not None:
        ask["seq"] = through + 1
    try:
        return int((await connection.api(f"STREAM.PURGE.{stream}", ask)).get("purged", 0))
    except ServerError as error:
        if error.code != codes.STREAM_NOT_FOUND:
            raise
        return 0


def nanoseconds(time: str) -> int:
    """Convert a time of the server to nanoseconds of Unix time; Python's own reader stops at microseconds.

    The server gives the year 1 if nothing was stored yet: that gives 0, like all times before 1970.
    """
    whole, _, fraction = time.removesuffix("Z").partition(".")
    try:
        seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC)
        since = (seconds - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "0").ljust(9, "0")[:9])
    except ValueError:
        return 0
    return max(0, since)


def timestamp(stored_ns: int) -> str:
    """Convert nanoseconds of Unix time to text as the server reads it."""
    seconds, fraction = divmod(stored_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
