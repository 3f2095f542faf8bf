"""Dead letters on the server: they are read, sent back to their function, or removed.

Rule 1: a letter that is sent back is confirmed before it is removed, under a Msg-Id of its own: doing it again does no harm.
Rule 2: an omitted body is read from the stream it came from; if it is gone there, the dead letter stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeAlias

from msgspec import Struct

from runner.core import deadletter, header, identity, origin
from runner.core.deadletter import DeadLetter, DeathFacts, Pairs
from runner.core.origin import Origin
from runner.errors import JetrunnerError, NoStream
from runner.jetstream import codes, consumer, ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.deadletterpage import PAGE, StoredDeadLetter, pages, read, read_page
from runner.jetstream.inventory import stream_info
from runner.jetstream.messages import leader_message, purge, remove, subjects, timestamp
from runner.jetstream.ownstreams import AGAIN, DEADLETTERS
from runner.jetstream.publisher import Outgoing, PubAck

PATIENCE_SECONDS = 30.0
WIDEST = 1 << 16
"""Most sequences that are searched at once, from the end of the stream."""
REASON = deadletter.REASON.encode()

Find: TypeAlias = Callable[[Origin], Awaitable["tuple[Pairs, bytes] | None"]]
"""Finds a message as it was published; None if its stream has removed it."""


class NotRedriven(JetrunnerError):  # noqa: N818  named by what happens, as its siblings are
    """A dead letter that cannot be sent back, and so stays."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which dead letters to take; an empty field takes all."""

    project: str
    function: str = ""
    reason: str = ""
    since: datetime | None = None
    """Only letters stored at that time or later."""

    @property
    def subject(self) -> str:
        """The pattern of the letters' subjects."""
        return identity.dead_subject(self.project, self.function or ">")

    @property
    def since_ns(self) -> int:
        """The time in nanoseconds of Unix time; 0 for all."""
        return round(self.since.timestamp() * 1e6) * 1_000 if self.since is not None else 0

    @property
    def is_whole(self) -> bool:
        """Whether all letters of the function, or of the project, are selected."""
        return not self.reason and self.since is None

    def takes(self, block: bytes) -> bool:
        """Whether a letter is selected by its headers; the server has already selected function and time."""
        return not self.reason or header.get(block, REASON) == self.reason.encode()


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, connection: Connection, find: Find | None = None) -> None:
        self._connection = connection
        self._find = find if find is not None else partial(original, connection)
        self._receivers: dict[str, bool] = {}

    async def last_sequence(self) -> int:
        """The newest sequence; 0 without the stream."""
        info = await stream_info(self._connection, DEADLETTERS)
        return int(info["state"]["last_seq"]) if info is not None else 0

    async def counts(self, project: str) -> dict[str, int]:
        """The number of a project's dead letters by function; empty without the stream."""
        found = subjects(self._connection, DEADLETTERS, identity.dead_subject(project, ">"))
        return {subject.rpartition(".")[2]: count async for subject, count in found}

    async def browse(self, selection: Selection, up_to: int | None = None) -> AsyncIterator[StoredDeadLetter]:
        """The selected letters, oldest first. Letters stored meanwhile are included, unless `up_to` is the last sequence to give."""
        async for page in pages(self._connection, selection.subject, selection.since_ns, selection.takes):
            for stored in page.letters:
                if up_to is not None and stored.letter.sequence > up_to:
                    return
                yield stored
            if up_to is not None and page.last >= up_to:
                return

    async def newest(self, selection: Selection, most: int) -> tuple[list[StoredDeadLetter], bool]:
        """The newest selected letters, the newest last, and whether there are older ones.

        They are searched from the end of the stream, because it may hold very many.
        """
        begin, end = await self._span(selection)
        found: list[StoredDeadLetter] = []
        width = max(PAGE, most)
        while begin <= end and len(found) <= most:
            first = max(begin, end - width + 1)
            found = [stored async for stored in self._between(selection, first, end)] + found
            end, width = first - 1, min(width * 4, WIDEST)
        return found[-most:], len(found) > most

    async def _between(self, selection: Selection, first: int, last: int) -> AsyncIterator[StoredDeadLetter]:
        while first <= last:
            ask = {"batch": min(PAGE, last - first + 1), "next_by_subj": selection.subject, "seq": first}
            page = await read_page(self._connection, ask, selection.takes)
            for stored in page.letters:
                if stored.letter.sequence <= last:
                    yield stored
            if not page.last:
                return
            first = page.last + 1

    async def _span(self, selection: Selection) -> tuple[int, int]:
        """The first and last sequence that selected letters may have; the first is higher if there are none."""
        info = await stream_info(self._connection, DEADLETTERS)
        if info is None:
            return 1, 0
        state = info["state"]
        if selection.since is None:
            return int(state["first_seq"]), int(state["last_seq"])
        ask = {"batch": 1, "next_by_subj": selection.subject, "start_time": timestamp(selection.since_ns)}
        page = await read_page(self._connection, ask)
        return (page.last, int(state["last_seq"])) if page.last else (1, 0)

    async def copies(self, selection: Selection, place: Origin) -> list[StoredDeadLetter]:
        """The dead letters of one message of a function, the newest last, read from the stream's leader."""
        found: list[StoredDeadLetter] = []
        last = 0
        async for stored in self.browse(selection):
            last = stored.letter.sequence
            if stored.letter.origin.same(place):
                found.append(stored)
        while (late := await self.following(selection, last + 1)) is not None:
            last = late.letter.sequence
            if late.letter.origin.same(place):
                found.append(late)
        return found

    async def get(self, sequence: int) -> StoredDeadLetter | None:
        """A dead letter by its own sequence in DEADLETTERS; None if there is none."""
        page = await read_page(self._connection, {"seq": sequence})
        return page.letters[0] if page.letters else None

    async def following(self, selection: Selection, sequence: int) -> StoredDeadLetter | None:
        """The function's first dead letter from this sequence on, read from the stream's leader; None if there is none."""
        ask = {"seq": sequence, "next_by_subj": selection.subject}
        found = await leader_message(self._connection, DEADLETTERS, ask, codes.NOTHING_STORED)
        if found is None:
            return None
        told = {"Nats-Sequence": str(found.sequence), "Nats-Time-Stamp": found.time}
        return read(header.encode([*header.pairs(found.header or b""), *told.items()]), found.body)

    async def send_back(self, stored: StoredDeadLetter, headers: Sequence[tuple[str, str]]) -> PubAck:
        """Send a letter back to its function alone, with `headers` (its own, as changed by a trace), and remove it.

        Raises `NotRedriven` if it cannot be sent back, and the `ServerError` family.
        """
        letter = stored.letter
        if not letter.project or not letter.function or not letter.stream:
            raise NotRedriven("its headers do not tell where it came from")
        if not await self._is_received(letter):
            raise NotRedriven(
                f"no instance takes what is redriven to {letter.function}",
                hint=f"start a runner that has the function, or remove it: runner function forget {letter.function}",
            )
        whole, body = await self.whole(letter, headers)
        message_id = f"redrive:{letter.sequence}.{stored.stored_ns}"
        pairs = (*origin.build(letter.origin, whole), ("Nats-Msg-Id", message_id))
        target = identity.again_subject(letter.project, letter.function)
        ack = await self._connection.publisher.publish_surely(Outgoing(target, body, pairs), PATIENCE_SECONDS)
        await self.drop(stored)
        return ack

    async def whole(
        self, letter: DeadLetter, headers: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[tuple[str, str]], bytes]:
        """Headers and body, including omitted parts. Raises `NotRedriven` if the body cannot be found any more."""
        if not letter.body_omitted and not letter.headers_omitted:
            return headers, letter.body
        found = await self._find(letter.origin)
        if found is not None:
            before, body = found
            carried = {name.lower() for name, _ in headers}
            headers = [*headers, *(pair for pair in before if pair[0].lower() not in carried)]
            return headers, body if letter.body_omitted else letter.body
        if letter.body_omitted:
            raise NotRedriven(
                f"its body was omitted, and {letter.stream}:{letter.origin_sequence} is not there any more"
            )
        return headers, letter.body

    async def store(self, facts: DeathFacts, pairs: Pairs, body: bytes, message_id: str) -> PubAck:
        """Try once to store a letter, as large as the server takes it; a deleted stream is made again for the next try."""
        own = ("Nats-Msg-Id", message_id)
        taken = len(own[0]) + len(own[1]) + len(": \r\n")
        pairs, body = deadletter.fit(pairs, body, self._connection.max_payload, taken)
        subject = identity.dead_subject(facts.project, facts.function)
        try:
            return await self._connection.publisher.publish(subject, body, [*pairs, own])
        except NoStream:
            await ownstreams.restore(self._connection, DEADLETTERS)
            raise

    async def drop(self, stored: StoredDeadLetter) -> None:
        """Remove a letter that was read earlier, unless another message has its sequence by now; no error if it is gone already."""
        await self.drop_at(stored.letter.sequence, stored.stored_ns)

    async def drop_at(self, sequence: int, stored_ns: int) -> bool:
        """Remove a letter by its sequence and its time; gives whether it was there."""
        found = await leader_message(self._connection, DEADLETTERS, {"seq": sequence})
        if found is None or (stored_ns and found.stored_ns != stored_ns):
            return False
        await self.remove(sequence)
        return True

    async def remove(self, sequence: int) -> None:
        """Remove a letter; no error if it is gone already."""
        await remove(self._connection, DEADLETTERS, sequence)

    async def purge(self, selection: Selection, up_to: int) -> int:
        """Remove all letters of a function, or of the project, up to a sequence; gives their number."""
        return await purge(self._connection, DEADLETTERS, selection.subject, up_to)

    async def _is_received(self, letter: DeadLetter) -> bool:
        durable = identity.durable(letter.project, letter.function)
        if durable not in self._receivers:
            self._receivers[durable] = await consumer.info(self._connection, AGAIN, durable) is not None
        return self._receivers[durable]


async def original(connection: Connection, place: Origin) -> tuple[list[tuple[str, str]], bytes] | None:
    """Headers and body of a message as published; None if the stream has removed it."""
    found = await leader_message(connection, place.stream, {"seq": place.sequence}, codes.NOTHING_STORED)
    if found is None or (place.timestamp_ns and found.stored_ns != place.timestamp_ns):
        return None  # or the stream was made anew under the same name
    return header.pairs(found.header or b""), found.body
