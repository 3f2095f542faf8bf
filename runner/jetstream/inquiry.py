"""What the server knows of one message in one function: the facts that its story is told by (`core/story.py`).

Rule 1: everything is read from leaders, but for dead letters and outputs, which are read many at once.
Rule 2: nothing is written, and nobody is asked for the message anew.
"""

from __future__ import annotations

from msgspec import structs

from runner.core import deadletter, header, identity, kepterror, origin, parts
from runner.core.checked import Unfit
from runner.core.kepterror import KeptError
from runner.core.origin import Origin
from runner.core.redaction import Rules
from runner.core.storyfacts import Facts, Gathering, Letter
from runner.errors import ServerError
from runner.jetstream import codes, consumer, readers
from runner.jetstream.connection import Connection
from runner.jetstream.deadletterpage import PAGE, pages
from runner.jetstream.deadletters import Selection
from runner.jetstream.gathered import Event, Gathered
from runner.jetstream.inquired import Inquired, InstanceAnswers
from runner.jetstream.messages import leader_message, one_by_one
from runner.jetstream.orderinquiry import OrderInquiry
from runner.jetstream.ownstreams import AGAIN, ERRORS
from runner.jetstream.readers import Reader

LETTERS = 4_096
"""Dead letters of a function that are looked at."""
AGAIN_MOST = 100
"""Messages that were sent back to a function that are looked at."""


class Inquiry:
    """Asks about one message."""

    def __init__(self, connection: Connection, about: Inquired, rules: Rules) -> None:
        """`rules` say what is not shown of it."""
        self._connection = connection
        self._about = about
        self._rules = rules
        self._order = OrderInquiry(connection, about)

    async def facts(self, reader: Reader, answers: InstanceAnswers) -> tuple[Facts, Origin]:
        """What is known of the message in one function, and its place, as far as something tells it. Raises ServerError."""
        about, function = self._about, reader.function
        kept = await self._kept(reader)
        letter, whole = await self._letter(reader, kept)
        place = about.origin
        if about.stored is None:
            place = letter[1] if letter is not None else place
            if kept is not None and not place.timestamp_ns:
                place = structs.replace(place, timestamp_ns=kept.stored)
        state, config = about.info["state"], about.info["config"]
        facts = Facts(
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

    async def _kept(self, reader: Reader) -> KeptError | None:
        """What its last attempt has failed with."""
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
        self, reader: Reader, kept: KeptError | None
    ) -> tuple[tuple[Letter, Origin] | None, bool]:
        """Its dead letter, the last one; and whether all that could be its own were looked at."""
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
        told = Letter(found.sequence, found.time, found.reason, found.error, found.message, found.attempts)
        return (told, found.origin), True

    async def _sent_back(self, reader: Reader, facts: Facts) -> Facts:
        """With the copy that was sent back to the function, where one is there: then that one's fate counts."""
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

    async def _gathering(self, reader: Reader) -> Gathering | None:
        """The event that it is a part of, where the function joins such."""
        stored = self._about.stored
        if reader.known is None or not reader.known.joins or stored is None:
            return None
        stack = parts.read(stored.header)
        if not stack:
            return None
        event = Event(reader.project, reader.function, stack[-1].batch)
        record, _ = await Gathered(self._connection).read(event)
        return Gathering(
            len(record.present),
            max(record.count, stack[-1].count),
            record.runner,
            record.done,
            record.given_up,
        )
