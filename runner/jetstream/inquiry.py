"""What the server knows of one message in one function: the facts that its story is made from (`core/story.py`).

Rule 1: all facts are read from leaders, except for dead letters and outputs, which are read many at once.
Rule 2: an inquiry writes nothing, and has no message delivered again.
"""

from __future__ import annotations

from msgspec import structs

from runner.core import deadletter, header, identity, kepterror, origin, parts
from runner.core.checked import Unfit
from runner.core.kepterror import KeptError
from runner.core.origin import Origin
from runner.core.redaction import Rules
from runner.core.storyfacts import GatheringFacts, LetterFacts, StoryFacts
from runner.errors import ServerError
from runner.jetstream import codes, consumer, readers
from runner.jetstream.connection import Connection
from runner.jetstream.deadletterpage import PAGE, pages
from runner.jetstream.deadletters import Selection
from runner.jetstream.gathered import Gathered, SplitEvent
from runner.jetstream.inquired import Inquired, InstanceAnswers
from runner.jetstream.messages import leader_message, one_by_one
from runner.jetstream.orderinquiry import OrderInquiry
from runner.jetstream.ownstreams import AGAIN, ERRORS
from runner.jetstream.readers import ReadingFunction

LETTERS = 4_096
"""Most dead letters of a function that are searched."""
AGAIN_MOST = 100
"""Most messages sent back to a function that are searched."""


class Inquiry:
    """Collects the facts of one message."""

    def __init__(self, connection: Connection, about: Inquired, rules: Rules) -> None:
        """`rules` say which values of the message must not be shown."""
        self._connection = connection
        self._about = about
        self._rules = rules
        self._order = OrderInquiry(connection, about)

    async def facts(self, reader: ReadingFunction, answers: InstanceAnswers) -> tuple[StoryFacts, Origin]:
        """The facts of the message in one function, and its place, as far as known. Raises ServerError."""
        about, function = self._about, reader.function
        kept = await self._kept(reader)
        letter, whole = await self._letter(reader, kept)
        place = about.origin
        if about.stored is None:
            place = letter[1] if letter is not None else place
            if kept is not None and not place.timestamp_ns:
                place = structs.replace(place, timestamp_ns=kept.stored)
        state, config = about.info["state"], about.info["config"]
        facts = StoryFacts(
            sequence=about.sequence,
            stored_ns=place.timestamp_ns,
            now=self._connection.clock.now(),
            last=int(state["last_seq"]),
            there=about.stored is not None,
            keeps=config.get("retention", "limits") == "limits",
            durable=readers.durable(reader.durable) if reader.durable is not None else None,
            ordered=reader.ordered,
            hands=answers.hands.get(function, ()),
            answered=answers.runs.get(function, 0),
            letter=letter[0] if letter is not None else None,
            letters_whole=whole,
            kept=kept,
            gathering=await self._gathering(reader),
        )
        if reader.ordered:
            return await self._order.facts(reader, facts, place, answers), place
        return await self._sent_back(reader, facts), place

    async def _kept(self, reader: ReadingFunction) -> KeptError | None:
        """The kept error of its last attempt."""
        about = self._about
        subject = identity.error_subject(reader.project, reader.function, about.stream, about.sequence)
        stored = await leader_message(
            self._connection, ERRORS, {"last_by_subj": subject}, codes.NOTHING_STORED
        )
        try:
            kept = kepterror.read(stored.body) if stored is not None else None
        except Unfit:
            return None
        if kept is None or (about.stored is not None and kept.stored != about.stored.stored_ns):
            return None
        return kept

    async def _letter(
        self, reader: ReadingFunction, kept: KeptError | None
    ) -> tuple[tuple[LetterFacts, Origin] | None, bool]:
        """Its last dead letter, and whether all letters that may be its own were searched."""
        since = self._about.origin.timestamp_ns / 1e9
        if kept is not None:
            since = max(since, kept.time - 60.0)
        found, looked, whole = None, 0, True
        selection = Selection(project=reader.project, function=reader.function)
        try:
            async for page in pages(self._connection, selection.subject, int(since * 1e9)):
                for each in page.letters:
                    if self._about.is_at(each.letter.origin):
                        found = each.letter
                looked += PAGE
                if looked == LETTERS and page.last:
                    whole = False
                    break
        except ServerError as error:
            if error.code not in codes.NOTHING_STORED:
                raise
            return None, True
        if found is None:
            return None, whole
        found = deadletter.redacted(found, self._rules)
        told = LetterFacts(
            found.sequence, found.time, found.reason, found.error, found.message, found.attempts
        )
        return (told, found.origin), True

    async def _sent_back(self, reader: ReadingFunction, facts: StoryFacts) -> StoryFacts:
        """The facts, with those of the copy that was sent back to the function: if there is one, its fate counts."""
        subject = identity.again_subject(reader.project, reader.function)
        looked = 0
        async for stored in one_by_one(self._connection, AGAIN, subject):
            pairs = dict(reversed(header.pairs(stored.header or b"")))
            if self._about.is_at(origin.read(pairs)):
                break
            looked += 1
            if looked == AGAIN_MOST:
                return structs.replace(facts, sent_back_whole=False)
        else:
            return facts
        info = await consumer.info(self._connection, AGAIN, identity.durable(reader.project, reader.function))
        return structs.replace(
            facts,
            sequence=stored.sequence,
            stored_ns=stored.stored_ns,
            last=stored.sequence,
            durable=readers.durable(info) if info is not None else None,
            there=True,
            sent_back=identity.message_id(AGAIN, stored.sequence),
            letter=facts.letter if facts.letter is not None and facts.letter.time > stored.time else None,
        )

    async def _gathering(self, reader: ReadingFunction) -> GatheringFacts | None:
        """The event that the message is a part of, if the function joins events."""
        stored = self._about.stored
        if reader.known is None or not reader.known.joins or stored is None:
            return None
        stack = parts.read(stored.header)
        if not stack:
            return None
        event = SplitEvent(reader.project, reader.function, stack[-1].batch)
        record, _ = await Gathered(self._connection).read(event)
        return GatheringFacts(
            len(record.present),
            max(record.count, stack[-1].count),
            record.runner,
            record.done,
            record.given_up,
        )
