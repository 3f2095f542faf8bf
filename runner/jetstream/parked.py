"""Parked messages: the messages in the stream `PARKED`, by the keys that they wait with.

Rule 1: messages are read from the leader: a lagging replica would let a later message of a key pass.
Rule 2: a message is stored under a Msg-Id of its own: if it is parked again after a crash, it is a duplicate.
Rule 3: a message too large to carry its origin is stored without headers and body; these are read from its own stream.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec import Struct

from runner.core import header, identity, origin
from runner.core.origin import Origin
from runner.core.sharding import key as key_of
from runner.errors import NoStream, TooLarge
from runner.jetstream import codes, ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import Find, original
from runner.jetstream.messages import leader_message, remove, subjects
from runner.jetstream.ownstreams import PARKED
from runner.jetstream.place import Place
from runner.jetstream.publisher import retry_until

OMITTED = ("Jetrunner-Parked-Body", "omitted")

Name = tuple[str, str]
"""A function and its key, or the key's token as it stands in a subject."""


class ParkedMessage(Struct, frozen=True):
    """A parked message."""

    sequence: int
    """Its sequence in `PARKED`."""
    pairs: list[tuple[str, str]]
    """Its headers, including those of its origin."""
    body: bytes

    @property
    def origin(self) -> Origin | None:
        """Where it came from; None if somebody else has stored it."""
        return origin.read(dict(reversed(self.pairs)))


class Parked:
    """The parked messages of one project."""

    def __init__(self, connection: Connection, project: str, find: Find | None = None) -> None:
        self._connection = connection
        self._find = find if find is not None else partial(original, connection)
        self._project = project

    async def counts(self, function: str = "*", key: str = "") -> dict[Name, int]:
        """The number of parked messages by function and key token; only keys that have some."""
        pattern = identity.parked_subject(self._project, function, key)
        found = {
            name_of(subject): count async for subject, count in subjects(self._connection, PARKED, pattern)
        }
        return {name: count for name, count in found.items() if name is not None}

    async def keys(self, function: str, positions: Sequence[int]) -> set[str]:
        """The keys with parked messages; if a subject has only a key's hash, the key is read from a message."""
        found: set[str] = set()
        for _, token in await self.counts(function):
            if not token.startswith(identity.HASHED):
                found.add(token)
                continue
            subject = identity.parked_subject(self._project, function).removesuffix(">") + token
            message = await self._following(subject, 1)
            place = message.origin if message is not None else None
            try:
                text = key_of(place.subject, positions) if place is not None else ""
            except ValueError:
                continue
            if identity.key_token(text) == token:
                found.add(text)
        return found

    async def store(
        self,
        function: str,
        key: str,
        place: Origin,
        block: bytes | None,
        body: bytes,
        wanted: Callable[[], Awaitable[bool]],
    ) -> Place | None:
        """Store a message, however long that takes; gives its place once confirmed, None if it is not `wanted` any more.

        `wanted` is asked before each try, and the try waits for its answer. Raises `ServerError` only for errors that do not pass.
        """
        subject = identity.parked_subject(self._project, function, key)
        durable = identity.durable(self._project, function)
        own = ("Nats-Msg-Id", f"{place.stream}:{place.sequence}.{place.timestamp_ns}:{durable}:parked")
        whole = [*origin.build(place, header.pairs(block or b"")), own]
        publisher = self._connection.publisher

        async def once(pairs: list[tuple[str, str]], data: bytes) -> Place | None:
            if not await wanted():
                return None
            try:
                ack = await publisher.publish(subject, data, pairs)
            except NoStream:
                await ownstreams.restore(self._connection, PARKED)
                if not await wanted():
                    return None
                ack = await publisher.publish(subject, data, pairs)
            return Place(PARKED, ack.seq, own[1])

        try:
            return await retry_until(lambda: once(whole, body), math.inf, f"a parked message of {function}")
        except TooLarge:
            bare = [*origin.build(place), OMITTED, own]
            return await retry_until(lambda: once(bare, b""), math.inf, f"a parked message of {function}")

    async def following(self, function: str, key: str, sequence: int) -> ParkedMessage | None:
        """A key's first message from this sequence on; None if there is none.

        A message that was stored bare gets its headers and body again; it stays bare if its original is gone.
        """
        return await self._following(identity.parked_subject(self._project, function, key), sequence)

    async def _following(self, subject: str, sequence: int) -> ParkedMessage | None:
        ask = {"seq": sequence, "next_by_subj": subject}
        stored = await leader_message(self._connection, PARKED, ask, codes.NOTHING_STORED)
        if stored is None:
            return None
        pairs = header.pairs(stored.header or b"")
        found = ParkedMessage(stored.sequence, pairs, stored.body)
        place = found.origin
        if OMITTED not in pairs or place is None:
            return found
        whole = await self._find(place)
        return ParkedMessage(found.sequence, origin.build(place, whole[0]), whole[1]) if whole else found

    async def remove(self, sequence: int) -> None:
        """Remove a message; no error if it is gone already."""
        await remove(self._connection, PARKED, sequence)


def is_bare(message: ParkedMessage) -> bool:
    """Whether headers and body were omitted, and are not to be found any more."""
    return OMITTED in message.pairs


def name_of(subject: str) -> Name | None:
    """Function and key token of a subject; None if it is not one of ours."""
    tokens = subject.split(".", 3)
    return (tokens[2], tokens[3]) if len(tokens) == 4 else None
