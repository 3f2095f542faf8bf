"""What the server knows of one message in a function that keeps order: its shard, its owner, its key."""

from __future__ import annotations

from msgspec import structs

from runner.core import failed, identity, sharding
from runner.core.failed import Failed
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.core.sharding import key as key_of
from runner.core.storyfacts import Facts
from runner.errors import ServerError
from runner.jetstream import claimed, codes
from runner.jetstream.connection import Connection
from runner.jetstream.inquired import Inquired, InstanceAnswers
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.kv import KV
from runner.jetstream.parked import Parked
from runner.jetstream.readers import Reader
from runner.jetstream.reshard import GenerationStore

PARKED_MOST = 100
"""Parked messages of a key that are looked at."""


class OrderInquiry:
    """Asks about one message."""

    def __init__(self, connection: Connection, about: Inquired) -> None:
        self._connection = connection
        self._about = about
        self._kv = KV(connection)

    async def facts(self, reader: Reader, facts: Facts, place: Origin, answers: InstanceAnswers) -> Facts:
        """The facts with what is known of its shard and its key; as they were where nothing has run yet. Raises ServerError."""
        try:
            return await self._in_order(reader, facts, place, answers)
        except ServerError as error:
            if error.code != codes.STREAM_NOT_FOUND:
                raise
            return facts  # there is no bucket

    async def _in_order(self, reader: Reader, facts: Facts, place: Origin, answers: InstanceAnswers) -> Facts:
        about, project, function = self._about, reader.project, reader.function
        stored = about.stored.subject if about.stored is not None else ""
        generation, number = sharding.place(stored)
        current, _ = await GenerationStore(self._connection, project).read(function)
        if current is not None and current.created == about.info["created"] and about.stored is not None:
            pending = facts.durable is not None and facts.durable.pending > 0
            left = generation < current.generation or about.sequence < current.start
            facts = structs.replace(
                facts, drained=left and not pending, ahead=generation > current.generation
            )
        owner = await claimed.owner(self._connection, project, f"{function}.{generation}.{number}")
        facts = structs.replace(
            facts,
            owner=owner,
            silent=bool(owner) and owner not in answers.names,
            failed=await self._failures(project, f"{function}.{generation}.{number}", place),
        )
        return await self._by_key(reader, facts, place)

    async def _failures(self, project: str, shard: str, place: Origin) -> Failed | None:
        value, revision = await self._kv.leader(f"failures.{project}.{shard}.{self._about.sequence}")
        found = failed.read(value) if revision else None
        return found if found is not None and found.is_about(place.timestamp_ns) else None

    async def _by_key(self, reader: Reader, facts: Facts, place: Origin) -> Facts:
        """With what is known of its key: whether it is parked, and behind what."""
        if reader.known is None or not reader.known.key_positions or not place.subject:
            return facts
        try:
            name = key_of(place.subject, reader.known.key_positions)
        except ValueError:
            return facts
        entry = await KeyMarks(self._connection, reader.project).mark(reader.function, name)
        if entry is None:
            return facts
        mark: Mark = entry.mark
        head = mark.given_up
        behind = identity.message_id(head.stream, head.sequence) if head is not None else ""
        return structs.replace(
            facts,
            parks=self._about.is_at(head)
            or any(
                facts.letter is not None and each.sequence == facts.letter.sequence for each in mark.letters
            ),
            returning=mark.state == "returning",
            behind=behind,
            parked=await self._parked_at(reader, name) if mark.diverts else 0,
            passed=not mark.diverts and mark.settled(place) and facts.letter is None,
        )

    async def _parked_at(self, reader: Reader, name: str) -> int:
        """Its place among the parked messages of its key; 0: it is none of them."""
        parked = Parked(self._connection, reader.project, _nothing)
        following = 1
        for _ in range(PARKED_MOST):
            message = await parked.following(reader.function, name, following)
            if message is None:
                return 0
            if self._about.is_at(message.origin):
                return message.sequence
            following = message.sequence + 1
        return 0


async def _nothing(_: Origin) -> None:
    """What was stored without its body stays as it is."""
    return
