"""Messages on `$JETRUNNER.again.<project>.<function>` of an ordered function: each becomes a dead letter that comes back.

Normally no message is sent there: a dead letter of an ordered function comes back by its key's mark. But an earlier release sent
them there, and so does a command that was told by the server that the function keeps no order.

Rule 1: a message is acknowledged once it is a dead letter, and its key's mark names that letter.
Rule 2: the durable is removed when no message waits for it. All messages that it has delivered are removed from the stream first,
        so that a message without a durable was never delivered.
Rule 3: commands take the durable as a sign that the function keeps no order, so an ordered function does not keep it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from runner.bindings import Binding
from runner.consumers.durables import Durables
from runner.core import deadletter, header, identity
from runner.core.deadletter import GivenUp
from runner.core.park import Letter
from runner.core.sharding import key
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream import consumer
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.delivery import Delivery
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.messages import purge, subjects
from runner.jetstream.ownstreams import AGAIN, DEADLETTERS
from runner.jetstream.publisher import PubAck, retry_until
from runner.jetstream.pull import Pull
from runner.pipeline.message import Incoming, read
from runner.pipeline.pipeline import Pipeline
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.functions")

LIMIT = 16
PATIENCE_SECONDS = 5.0
REPEAT_SECONDS = 5.0
LOOK_SECONDS = 60.0
"""The subject is checked this often even if no message was heard on it."""
WHY = "it was sent back to this function"
NOWHERE = "it was sent back, and does not say where it came from"


class SentBack:
    """Takes in the messages that were sent back to one ordered function by its name."""

    def __init__(self, runtime: Runtime, binding: Binding, pipeline: Pipeline, durables: Durables) -> None:
        self._runtime = runtime
        self._connection = runtime.connection
        self._function = binding.function
        self._positions = binding.key_positions
        self._durables = durables
        self._marks = KeyMarks(runtime.connection, runtime.project)
        self._letters = DeadLetters(runtime.connection)
        self._durable = identity.durable(runtime.project, binding.function)
        self._subject = identity.again_subject(runtime.project, binding.function)
        self._wanted = consumer.config(self._durable, self._subject, "all", binding.function)
        self._pull = Pull(runtime.connection, AGAIN, self._durable, LIMIT, self._arrived, self._gone)
        self._pulls = pipeline.pulls
        self._history = runtime.histories.of(AGAIN)
        self._history.add(self._pull)
        self._stays = False
        """Whether settled messages may not be removed: then the durable is kept, because it alone knows that they are settled."""
        self._due = True
        self._looked = 0.0
        self._closed = False
        self._looking = asyncio.Lock()

    async def start(self) -> None:
        """Look now, and whenever a message is sent there."""
        await self._connection.wire.subscribe(self._subject, self._heard)
        await self.look()

    async def close(self) -> None:
        """Ask for no more messages, and give back those that were not taken in."""
        self._closed = True
        async with self._looking:
            await self._stop_pulling()

    def _heard(self, *_: object) -> None:
        self._due = True
        self._runtime.tasks.start_soon(self.look)

    def _gone(self) -> None:
        """The durable is gone: another instance has found no message left."""
        self._heard()

    async def look(self) -> None:
        """Take in waiting messages, and remove the durable once there are none; called every few seconds."""
        if self._closed or self._looking.locked():
            return
        if not self._due and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        async with self._looking:
            try:
                self._due = False
                self._due = await self._look() or self._due
                self._looked = time.monotonic()
            except JetrunnerError as error:
                self._due = True
                log.debug("cannot read what was sent back to %s: %s", self._function, error)

    async def _look(self) -> bool:
        """Whether more messages may come."""
        with suppress(PermissionDenied):  # then it is not known whether it went back; a warning said so
            await self._history.check(thorough=False)
        moment = self._history.moment
        info = await consumer.info(self._connection, AGAIN, self._durable)
        waits = bool([each async for each in subjects(self._connection, AGAIN, self._subject)])
        if info is None and not waits:
            await self._stop_pulling()
            return False
        if info is None:
            info = await self._durables.ensure(AGAIN, self._wanted)
        if info["num_pending"] or info["num_ack_pending"] or self._stays:
            if not self._pull.is_open:
                self._pulls.append(self._pull)
                await self._pull.open()
            return not self._stays
        await self._stop_pulling()
        return await self._remove(info["delivered"]["stream_seq"], moment)

    async def _remove(self, delivered: int, moment: tuple[int, int]) -> bool:
        """Remove the durable and the messages that it had delivered at that moment, all of which are settled."""
        try:
            if not await self._history.still(moment):
                return True  # the sequence may belong to another stream, whose messages were not delivered
            await purge(self._connection, AGAIN, self._subject, delivered)
            await consumer.remove(self._connection, AGAIN, self._durable)
        except PermissionDenied:
            self._stays = True
        return True  # a message may have been sent there meanwhile

    async def _stop_pulling(self) -> None:
        if self._pull in self._pulls:
            self._pulls.remove(self._pull)
            await self._pull.close()
        for delivery in list(self._pull.unsettled.values()):
            self._pull.give_back(delivery)

    # -- one message ------------------------------------------------------------------------------------

    def _arrived(self, delivery: Delivery) -> None:
        if self._closed:
            self._pull.give_back(delivery)
        else:
            self._runtime.tasks.start_soon(self._take_in, delivery)

    async def _take_in(self, delivery: Delivery) -> None:
        incoming = read(delivery)
        text = self._key(incoming)
        try:
            ack = await retry_until(lambda: self._store(incoming, known=bool(text)), PATIENCE_SECONDS)
            if text:
                await self._name(text, ack.seq, incoming)
        except (JetrunnerError, ValueError) as error:
            log.warning(
                "%s: %s, which was sent back, cannot be handled yet: %s", self._function, incoming.id, error
            )
            self._pull.later(delivery, REPEAT_SECONDS)
        else:
            self._pull.settle(delivery, b"+ACK")

    def _key(self, incoming: Incoming) -> str:
        """The message's key; empty when the message does not say where it came from, or has no key."""
        try:
            return key(incoming.origin.subject, self._positions) if incoming.sent_back else ""
        except ValueError:
            return ""

    async def _store(self, incoming: Incoming, *, known: bool) -> PubAck:
        """Make a dead letter of the message. Doing it again makes no second one."""
        origin = incoming.origin
        why = GivenUp(0, "exhausted", WHY) if known else GivenUp(0, "undecodable", NOWHERE)
        facts = deadletter.facts(origin, datetime.now(UTC), self._runtime.project, self._function, why)
        delivery = incoming.delivery
        pairs = deadletter.build(facts, header.pairs(delivery.header or b""))
        own = f"{AGAIN}:{incoming.sequence}.{incoming.stored_ns}:{self._durable}:dead"
        return await self._letters.store(facts, pairs, delivery.body, own)

    async def _name(self, text: str, sequence: int, incoming: Incoming) -> None:
        """Name the dead letter in its key's mark, so that it comes back. If the key is parked, it comes back with the key."""
        selection = Selection(project=self._runtime.project, function=self._function)
        ask = partial(self._letters.following, selection, sequence)
        stored = await self._runtime.histories.of(DEADLETTERS).surely(ask)
        if stored is None or stored.letter.sequence != sequence:
            return  # the letter has already come back, and is settled
        origin = incoming.origin
        now = time.time()
        letter = Letter(sequence, stored.stored_ns, origin.sequence, origin.timestamp_ns, now)
        await self._marks.send_back(self._function, text, self._positions, [letter], now, even_parked=True)
