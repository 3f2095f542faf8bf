"""Parked keys on the server: their marks in the bucket, and their messages in the stream `PARKED`.

Rule 1: everything is read from the leaders: a replica that lags would let a later message of a key pass.
Rule 2: a message is stored under a Msg-Id of its own: parked again after a crash, it is a duplicate.
Rule 3: one too large to carry its origin is stored without headers and body; they are read where it came from.
"""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from msgspec import Struct

from runner.core import header, identity, origin, park
from runner.core.checked import Unfit
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.errors import NoStream, ServerError, TooLarge
from runner.jetstream import ownstreams
from runner.jetstream.bucket import PREFIX
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import MISSING, original, remove
from runner.jetstream.lease import WRONG_LAST_SEQUENCE, Leases
from runner.jetstream.ownstreams import BUCKET_STREAM, PARKED
from runner.jetstream.publisher import insist
from runner.jetstream.stray import pass_over
from runner.jetstream.wire import Unsubscribe

FORGOTTEN = "24h"
"""A key that is free again is remembered so long: for messages whose ack was lost in a crash."""
OMITTED = ("Jetrunner-Parked-Body", "omitted")

Name = tuple[str, str]
"""Function and key."""


class Entry(Struct, frozen=True):
    """A mark, and the revision that the next write must name."""

    mark: Mark
    revision: int


class Message(Struct, frozen=True):
    """A parked message."""

    sequence: int
    """Its own, in `PARKED`."""
    pairs: list[tuple[str, str]]
    """Its headers, its origin's among them."""
    body: bytes

    @property
    def origin(self) -> Origin | None:
        """Where it came from; None for one that somebody else has put there."""
        return origin.read(dict(reversed(self.pairs)))


class Parked:
    """The parked keys of one project."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._connection = connection
        self._leases = Leases(connection)
        self._project = project

    # -- marks ------------------------------------------------------------------------------------------

    async def names(self, function: str = "*", key: str = "") -> list[Name]:
        """Every key that has a mark, of one function or all; with a key, that one alone."""
        pattern = PREFIX + identity.parked_subject(self._project, function, key)
        found = []
        async for subject, _ in self._subjects(BUCKET_STREAM, pattern):
            of, token = _name(subject.removeprefix(PREFIX))
            if not token.startswith(identity.HASHED):
                found.append((of, token))
            elif (entry := await self._at(subject.removeprefix(PREFIX))) and _is_of(entry.mark, token):
                found.append((of, entry.mark.key or ""))
        return found

    async def mark(self, function: str, key: str) -> Entry | None:
        """A key's mark; None when it has none, or one that cannot be read."""
        return await self._at(identity.parked_subject(self._project, function, key))

    async def _at(self, subject: str) -> Entry | None:
        entry = await self._leases.latest(subject)
        if entry is None:
            return None
        try:
            return Entry(park.read(entry.value), entry.revision)
        except Unfit as error:
            pass_over(subject, error)
            return None

    async def write(self, function: str, key: str, mark: Mark, revision: int) -> Entry | None:
        """Write a mark if its revision is still this one (0: there is none); None when somebody else has written."""
        subject = identity.parked_subject(self._project, function, key)
        pairs = [("Nats-Expected-Last-Subject-Sequence", str(revision))]
        if not mark.diverts:
            pairs.append(("Nats-TTL", FORGOTTEN))
        publisher = self._connection.publisher
        try:
            ack = await publisher.publish(PREFIX + subject, park.encode(mark), pairs)
        except ServerError as error:
            if error.code != WRONG_LAST_SEQUENCE:
                raise
            standing = await self.mark(function, key)  # it may be ours, of a write whose answer was lost
            return standing if standing is not None and standing.mark == mark else None
        return Entry(mark, ack.seq)

    async def watch(self, function: str, changed: Callable[[str, Mark], None]) -> Unsubscribe:
        """Call `changed(key, mark)` for every mark from now on that somebody writes.

        The server tells it when it comes in: it is not stored yet then, and may still be refused.
        """
        pattern = identity.parked_subject(self._project, function)
        prefix = pattern.removesuffix(">")

        def written(key: str, value: bytes) -> None:
            with suppress(Unfit):
                mark, token = park.read(value), key.removeprefix(prefix)
                if not token.startswith(identity.HASHED):
                    changed(token, mark)
                elif _is_of(mark, token):
                    changed(mark.key or "", mark)

        return await self._leases.watch(pattern, written)

    async def bring_back(self, function: str, key: str, now: float) -> Entry | None:
        """Tell the key's owner to bring it back; None when it is not parked."""
        while True:
            entry = await self.mark(function, key)
            if entry is None or entry.mark.state == "free":
                return None
            if entry.mark.state == "returning":
                return entry
            written = await self.write(function, key, entry.mark.returning(now), entry.revision)
            if written is not None:
                return written

    # -- messages ---------------------------------------------------------------------------------------

    async def counts(self, function: str = "*", key: str = "") -> dict[Name, int]:
        """How many messages each key has parked, by its function and token; keys without any are not in it."""
        pattern = identity.parked_subject(self._project, function, key)
        return {_name(subject): count async for subject, count in self._subjects(PARKED, pattern)}

    async def store(
        self,
        function: str,
        key: str,
        place: Origin,
        block: bytes | None,
        body: bytes,
        wanted: Callable[[], bool],
    ) -> None:
        """Returns when it is confirmed, however long that takes, or once it is not `wanted` any more.

        Raises `ServerError` only for what waiting cannot mend.
        """
        subject = identity.parked_subject(self._project, function, key)
        durable = identity.durable(self._project, function)
        own = ("Nats-Msg-Id", f"{place.stream}:{place.sequence}.{place.timestamp_ns}:{durable}:parked")
        whole = [*origin.build(place, header.pairs(block or b"")), own]
        publisher = self._connection.publisher

        async def once(pairs: list[tuple[str, str]], data: bytes) -> object:
            if not wanted():
                return None
            try:
                return await publisher.publish(subject, data, pairs)
            except NoStream:
                await ownstreams.ensure(self._connection, PARKED)
                return await publisher.publish(subject, data, pairs)

        try:
            await insist(lambda: once(whole, body), math.inf, f"a parked message of {function}")
        except TooLarge:
            bare = [*origin.build(place), OMITTED, own]
            await insist(lambda: once(bare, b""), math.inf, f"a parked message of {function}")

    async def following(self, function: str, key: str, sequence: int) -> Message | None:
        """A key's first message from this sequence on; None when there is none.

        One that was stored bare is made whole again; it stays bare when its original is not there any more.
        """
        ask = {"seq": sequence, "next_by_subj": identity.parked_subject(self._project, function, key)}
        try:
            message = (await self._connection.api(f"STREAM.MSG.GET.{PARKED}", ask))["message"]
        except ServerError as error:
            if error.code in MISSING:
                return None
            raise
        pairs = header.pairs(base64.b64decode(message.get("hdrs") or ""))
        found = Message(message["seq"], pairs, base64.b64decode(message.get("data") or ""))
        place = found.origin
        if OMITTED not in pairs or place is None:
            return found
        whole = await original(self._connection, place)
        return Message(found.sequence, origin.build(place, whole[0]), whole[1]) if whole else found

    async def remove(self, sequence: int) -> None:
        """Remove a message; no error when it is gone already."""
        await remove(self._connection, PARKED, sequence)

    async def _subjects(self, stream: str, pattern: str) -> AsyncIterator[tuple[str, int]]:
        offset = 0
        while True:
            ask = {"subjects_filter": pattern, "offset": offset}
            try:
                info = await self._connection.api(f"STREAM.INFO.{stream}", ask)
            except ServerError as error:
                if error.code in MISSING:
                    return
                raise
            page = info["state"].get("subjects") or {}
            for subject, count in page.items():
                yield subject, count
            offset += len(page)
            if not page or offset >= info.get("total", 0):
                return


def is_bare(message: Message) -> bool:
    """Whether headers and body were omitted, and nobody has them any more."""
    return OMITTED in message.pairs


def _is_of(mark: Mark, token: str) -> bool:
    """Whether a mark stands under the hash of its own key."""
    key = mark.key
    return key is not None and identity.key_token(key) == token


def _name(subject: str) -> Name:
    _, _, function, key = subject.split(".", 3)
    return function, key
