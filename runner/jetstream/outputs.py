"""The outputs of one message, found in the streams that they went into by the ids that derive from it.

Rule 1: the server finds no message by its id. An output is stored after its input was, and mostly its subject is known: so the
        messages of that subject are read from that time on.
Rule 2: so many are read and no more, and none once the time for it is over. What was not looked at is told.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from msgspec import Struct

from runner.core import header, identity, sharding
from runner.core.origin import Origin
from runner.core.subject import matches
from runner.errors import PermissionDenied, ServerError
from runner.jetstream import codes
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.messages import Stored, leader_message, one_by_one, pages, timestamp
from runner.jetstream.ownstreams import AGAIN, STREAMS

PAGE = 256
NAMED = 2_048
"""Messages of a subject that are read, where it is known."""
UNNAMED = 512
"""Messages of a stream that are read, where the function may have published under any subject."""
ONE_BY_ONE = 64
"""The same of a stream that does not answer for many at once."""
PAGE_BYTES = 8 << 20
DELAYED = 16
"""Outputs with a delay that are looked for."""
MESSAGE_ID = b"Nats-Msg-Id"


class Output(Struct, frozen=True):
    """One that was found."""

    stream: str
    sequence: int
    subject: str
    number: str
    """Within its stream, as its id tells."""


class Found(Struct, frozen=True):
    """What was found, and whether everything was looked at."""

    outputs: tuple[Output, ...] = ()
    delayed: tuple[Output, ...] = ()
    """Those whose time has not come."""
    whole: bool = True


class Search(Struct, frozen=True):
    """What the outputs of one function are found by."""

    project: str
    function: str
    origin: Origin
    target: str = ""
    """The subject of what it returns."""
    anywhere: bool = True
    """Whether it may have published elsewhere, too."""
    until: float = inf
    """When it has to end, by the monotonic clock."""

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return time.monotonic() >= self.until

    @property
    def prefix(self) -> str:
        """What the ids of its outputs begin with."""
        place = self.origin
        return identity.output_id(
            place.stream, place.sequence, place.timestamp_ns, self.project, self.function, ""
        )


async def find(connection: Connection, streams: Mapping[str, Mapping[str, Any]], search: Search) -> Found:
    """The outputs that stand; `streams` are the configurations of all."""
    if search.over:
        return Found(whole=False)
    places: list[tuple[str, str]] = []
    for name, config in streams.items():
        if name in STREAMS or name.startswith(("KV_", "OBJ_")):
            continue
        captures = [str(each) for each in config.get("subjects") or ()]
        if search.target and (not captures or any(matches(each, search.target) for each in captures)):
            places.append((name, search.target))
            if sharding.read(config) is not None:
                places.append((name, f"shard.*.*.{search.target}"))
        if search.anywhere:
            places.append((name, ">"))
    looked = await map_concurrently(lambda place: _look(connection, *place, search), places)
    found = {(each.stream, each.sequence): each for outputs, _ in looked for each in outputs}
    whole = all(all_read for _, all_read in looked)
    delayed = await _delayed(connection, search)
    return Found(tuple(found[place] for place in sorted(found)), tuple(delayed), whole)


async def _look(
    connection: Connection, stream: str, pattern: str, search: Search
) -> tuple[list[Output], bool]:
    """The outputs under a pattern of subjects, and whether all of it was read: not where it may not be."""
    try:
        return await _many(connection, stream, pattern, search)
    except PermissionDenied:
        return [], False


async def _many(
    connection: Connection, stream: str, pattern: str, search: Search
) -> tuple[list[Output], bool]:
    most = UNNAMED if pattern == ">" else NAMED
    ask: dict[str, Any] = {"batch": PAGE, "max_bytes": PAGE_BYTES, "next_by_subj": pattern}
    ask["start_time"] = timestamp(search.origin.timestamp_ns)
    outputs: list[Output] = []
    read, whole = 0, False
    try:
        async for page, whole in pages(connection, stream, ask):  # noqa: B007  told below
            outputs += _own(stream, page, search)
            read += len(page)
            if read >= most or search.over:
                break
    except ServerError:
        return await _one_by_one(connection, stream, pattern, search)
    return outputs, whole


async def _one_by_one(
    connection: Connection, stream: str, pattern: str, search: Search
) -> tuple[list[Output], bool]:
    """The same by its leader: the stream allows no direct reads."""
    outputs: list[Output] = []
    read = 0
    async for stored in one_by_one(connection, stream, pattern, search.origin.timestamp_ns):
        outputs += _own(stream, [stored], search)
        read += 1
        if read == ONE_BY_ONE or search.over:
            return outputs, False
    return outputs, True


async def _delayed(connection: Connection, search: Search) -> list[Output]:
    """Those that stand in our own stream until their time comes: their subjects derive from their ids."""
    found = []
    for number in range(DELAYED):
        key = hashlib.blake2b(f"{search.prefix}{number}".encode(), digest_size=16).hexdigest()
        subject = f"$JETRUNNER.delayed.{search.project}.{key}"
        stored = await leader_message(connection, AGAIN, {"last_by_subj": subject}, codes.NOTHING_STORED)
        if stored is None:
            break
        found.append(Output(AGAIN, stored.sequence, subject, str(number)))
    return found


def _own(stream: str, page: Sequence[Stored], search: Search) -> list[Output]:
    """Those of a page that are outputs of the message."""
    prefix = search.prefix.encode("utf-8", "surrogateescape")
    found = []
    for stored in page:
        told = header.get(stored.header, MESSAGE_ID) if stored.header is not None else None
        if told is not None and told.startswith(prefix):
            number = told[len(prefix) :].decode("utf-8", "replace")
            found.append(Output(stream, stored.sequence, sharding.original(stored.subject), number))
    return found
