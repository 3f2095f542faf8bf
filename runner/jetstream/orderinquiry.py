"""What the server knows of one message in a function that keeps order: its shard, its owner, its key."""

from __future__ import annotations

from msgspec import structs

from runner.core import failurerecord, identity, sharding
from runner.core.failurerecord import FailureRecord
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.core.sharding import key as key_of
from runner.core.storyfacts import StoryFacts
from runner.errors import ServerError
from runner.jetstream import claimed, codes
from runner.jetstream.connection import Connection
from runner.jetstream.inquired import Inquired, InstanceAnswers
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.kv import KV
from runner.jetstream.parked import Parked
from runner.jetstream.readers import ReadingFunction
from runner.jetstream.reshard import GenerationStore

PARKED_MOST = 100
"""Most parked messages of a key that are searched."""


class OrderInquiry:
    """Collects the facts of one message that depend on order."""

    def __init__(self, connection: Connection, about: Inquired) -> None:
        self._connection = connection
        self._about = about
        self._kv = KV(connection)

    async def facts(
        self, reader: ReadingFunction, facts: StoryFacts, place: Origin, answers: InstanceAnswers
    ) -> StoryFacts:
        """The facts, with those of the message's shard and key; unchanged if no function has run yet. Raises ServerError."""
        try:
            return await self._in_order(reader, facts, place, answers)
        except ServerError as error:
            if error.code != codes.STREAM_NOT_FOUND:
                raise
            return facts  # there is no bucket

    async def _in_order(
        self, reader: ReadingFunction, facts: StoryFacts, place: Origin, answers: InstanceAnswers
    ) -> StoryFacts:
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

    async def _failures(self, project: str, shard: str, place: Origin) -> FailureRecord | None:
        value, revision = await self._kv.leader(f"failures.{project}.{shard}.{self._about.sequence}")
        found = failurerecord.read(value) if revision else None
        return found if found is not None and found.is_about(place.timestamp_ns) else None

    async def _by_key(self, reader: ReadingFunction, facts: StoryFacts, place: Origin) -> StoryFacts:
        """The facts, with those of the message's key: whether it is parked, and behind which message."""
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

    async def _parked_at(self, reader: ReadingFunction, name: str) -> int:
        """The message's sequence among the parked messages of its key; 0 if it is not parked."""
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
    """Leave a parked message without its body."""
    return
