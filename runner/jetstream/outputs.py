"""The outputs of one message, found in their streams by the ids that derive from the message.

Rule 1: the server cannot find a message by its id. But an output is stored after its input, and mostly its subject is known. So the
        messages of that subject are read from the input's time on.
Rule 2: only so many are read, and none once the time for it is over. The result says whether everything was searched.
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
from runner.jetstream.messages import StoredMessage, leader_message, one_by_one, pages, timestamp
from runner.jetstream.ownstreams import AGAIN, STREAMS

PAGE = 256
NAMED = 2_048
"""Most messages of a subject that are read, if the subject is known."""
UNNAMED = 512
"""Most messages of a stream that are read, if the function may have published under any subject."""
ONE_BY_ONE = 64
"""Most messages that are read from a stream that does not answer for many at once."""
PAGE_BYTES = 8 << 20
DELAYED = 16
"""Most outputs with a delay that are searched."""
MESSAGE_ID = b"Nats-Msg-Id"


class FoundOutput(Struct, frozen=True):
    """An output that was found."""

    stream: str
    sequence: int
    subject: str
    number: str
    """Its number among the outputs to its stream, from its id."""


class FoundOutputs(Struct, frozen=True):
    """The outputs that were found, and whether everything was searched."""

    outputs: tuple[FoundOutput, ...] = ()
    delayed: tuple[FoundOutput, ...] = ()
    """Delayed outputs whose time has not come."""
    whole: bool = True


class Search(Struct, frozen=True):
    """What to search: the outputs of one function for one message."""

    project: str
    function: str
    origin: Origin
    target: str = ""
    """The subject of the function's result."""
    anywhere: bool = True
    """Whether the function may have published elsewhere, too."""
    until: float = inf
    """When the search has to end, by the monotonic clock."""

    @property
    def over(self) -> bool:
        """Whether the time for the search has passed."""
        return time.monotonic() >= self.until

    @property
    def prefix(self) -> str:
        """The beginning of the ids of its outputs."""
        place = self.origin
        return identity.output_id(
            place.stream, place.sequence, place.timestamp_ns, self.project, self.function, ""
        )


async def find(
    connection: Connection, streams: Mapping[str, Mapping[str, Any]], search: Search
) -> FoundOutputs:
    """Find the stored outputs; `streams` are the configurations of all streams."""
    if search.over:
        return FoundOutputs(whole=False)
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
    return FoundOutputs(tuple(found[place] for place in sorted(found)), tuple(delayed), whole)


async def _look(
    connection: Connection, stream: str, pattern: str, search: Search
) -> tuple[list[FoundOutput], bool]:
    """Outputs under a pattern of subjects, and whether all were read; False if reading is not allowed."""
    try:
        return await _many(connection, stream, pattern, search)
    except PermissionDenied:
        return [], False


async def _many(
    connection: Connection, stream: str, pattern: str, search: Search
) -> tuple[list[FoundOutput], bool]:
    most = UNNAMED if pattern == ">" else NAMED
    ask: dict[str, Any] = {"batch": PAGE, "max_bytes": PAGE_BYTES, "next_by_subj": pattern}
    ask["start_time"] = timestamp(search.origin.timestamp_ns)
    outputs: list[FoundOutput] = []
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
) -> tuple[list[FoundOutput], bool]:
    """Outputs read one by one from the leader, because the stream allows no direct reads."""
    outputs: list[FoundOutput] = []
    read = 0
    async for stored in one_by_one(connection, stream, pattern, search.origin.timestamp_ns):
        outputs += _own(stream, [stored], search)
        read += 1
        if read == ONE_BY_ONE or search.over:
            return outputs, False
    return outputs, True


async def _delayed(connection: Connection, search: Search) -> list[FoundOutput]:
    """Outputs that stand in our own stream until their time comes: their subjects derive from their ids."""
    found = []
    for number in range(DELAYED):
        key = hashlib.blake2b(f"{search.prefix}{number}".encode(), digest_size=16).hexdigest()
        subject = f"$JETRUNNER.delayed.{search.project}.{key}"
        stored = await leader_message(connection, AGAIN, {"last_by_subj": subject}, codes.NOTHING_STORED)
        if stored is None:
            break
        found.append(FoundOutput(AGAIN, stored.sequence, subject, str(number)))
    return found


def _own(stream: str, page: Sequence[StoredMessage], search: Search) -> list[FoundOutput]:
    """The messages of a page that are outputs of the message."""
    prefix = search.prefix.encode("utf-8", "surrogateescape")
    found = []
    for stored in page:
        told = header.get(stored.header, MESSAGE_ID) if stored.header is not None else None
        if told is not None and told.startswith(prefix):
            number = told[len(prefix) :].decode("utf-8", "replace")
            found.append(FoundOutput(stream, stored.sequence, sharding.original(stored.subject), number))
    return found
