"""Messages that the server delivers no more, because somebody has given a durable a limit of deliveries.

Only the runner should give up a message, never the server. A message that the server has given up is in no dead letter, and is not
pending any more. The server publishes one advisory about it. The runner then sends the message to its function by the function's
name, like a dead letter that comes back.

Rule 1: an advisory counts only if the durable was found with a limit, because anybody may have published it.
Rule 2: each message has a Msg-Id of its own: all instances may send it, and it comes once.
Rule 3: an advisory is kept until its message is stored again, however often that fails.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
from msgspec import Struct

from runner.core import checked, header, identity, origin, sharding
from runner.core.checked import Count, Stream, Unfit
from runner.core.origin import Origin
from runner.errors import JetrunnerError
from runner.jetstream import consumer
from runner.jetstream.messages import leader_message
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.publisher import Outgoing
from runner.jetstream.wire import Unsubscribe
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.durables")

ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
LIMITED_SECONDS = 60.0
"""How long advisories count after the limit was found: several instances hear of it, and one removes the limit."""
MOST = 100_000
"""Most advisories that are kept; of any more, the log has the sequences."""
PATIENCE_SECONDS = 30.0
FIRST_SECONDS, LAST_SECONDS = 0.5, 30.0
"""Pauses before a message that could not be sent back is sent again."""


class GivenUpAdvisory(Struct, frozen=True):
    """The server's advisory about a message that it gave up."""

    stream: Stream
    consumer: Stream
    stream_seq: Count


_read = checked.json(GivenUpAdvisory)


class StrandedMessage(Struct, frozen=True):
    """One message that the server gave up."""

    told: GivenUpAdvisory
    wanted: consumer.ConsumerConfig
    """The settings that its durable should have."""
    heard: float
    """When the advisory came, by the monotonic clock."""


class Stranded:
    """The messages of one function that the server gave up."""

    def __init__(self, runtime: Runtime, function: str) -> None:
        self._runtime = runtime
        self._connection = runtime.connection
        self._function = function
        self._target = identity.again_subject(runtime.project, function)
        self._items: deque[StrandedMessage] = deque()
        self._listening: dict[tuple[str, str], Unsubscribe] = {}
        self._limited: dict[tuple[str, str], float] = {}
        """Until when the advisories of each durable count, by the monotonic clock."""
        self._busy = False

    async def listen(self, wanted: consumer.ConsumerConfig, stream: str) -> None:
        """Subscribe once to the advisories of a durable. Without the right to, a limit is removed, but no message is sent back."""
        await self.leave(stream, wanted.durable_name)
        subject = f"{ADVISORY}.{stream}.{wanted.durable_name}"
        heard = partial(self._heard, stream, wanted)
        self._listening[stream, wanted.durable_name] = await self._connection.wire.subscribe(subject, heard)

    async def leave(self, stream: str, durable: str) -> None:
        """Stop listening to a durable's advisories; messages that were already heard of are still sent."""
        unsubscribe = self._listening.pop((stream, durable), None)
        if unsubscribe is not None and self._connection.is_connected:
            await unsubscribe()

    def limited(self, stream: str, durable: str, config: Mapping[str, Any]) -> bool:
        """Whether the durable has a limit of deliveries; remembered for 60 s."""
        found = bool(config.get("max_deliver", -1) > 0)
        if found:
            self._limited[stream, durable] = time.monotonic() + LIMITED_SECONDS
        return found

    def _heard(
        self,
        stream: str,
        wanted: consumer.ConsumerConfig,
        subject: bytes,
        reply: bytes,
        header: bytes | None,
        body: bytes,
    ) -> None:
        try:
            told = _read(body)
        except Unfit:
            return
        if (told.stream, told.consumer) != (stream, wanted.durable_name):
            return
        if len(self._items) >= MOST:
            where = identity.message_id(told.stream, told.stream_seq)
            log.error(
                "%s: the server has given up %s; it does not run, because too many such messages wait",
                told.consumer,
                where,
            )
            return
        self._items.append(StrandedMessage(told, wanted, time.monotonic()))
        if not self._busy:
            self._busy = True
            self._runtime.tasks.start_soon(self._send_all)

    async def _send_all(self) -> None:
        pause = FIRST_SECONDS
        try:
            while self._items:
                if await self._round():
                    pause = FIRST_SECONDS
                else:
                    await anyio.sleep(pause)
                    pause = min(LAST_SECONDS, 2 * pause)
        finally:
            self._busy = False

    async def _round(self) -> bool:
        """Send each message that was heard of so far; False if one has to be sent later."""
        looked: set[str] = set()
        whole = True
        for _ in range(len(self._items)):
            item = self._items[0]
            try:
                if item.wanted.durable_name not in looked:
                    await self._look(item.told.stream, item.wanted)
                    looked.add(item.wanted.durable_name)
                if item.heard < self._limited.get((item.told.stream, item.told.consumer), 0.0):
                    await self._send(item.told)
            except JetrunnerError as error:
                log.warning(
                    "%s: messages that the server gave up cannot be sent back yet: %s", self._function, error
                )
                self._items.rotate(-1)
                whole = False
            else:
                self._items.popleft()
        return whole

    async def _look(self, stream: str, wanted: consumer.ConsumerConfig) -> None:
        """Remove the limit first: else the server would give up the message that is sent again, too."""
        info = await consumer.info(self._connection, stream, wanted.durable_name)
        if info is not None and self.limited(stream, wanted.durable_name, info["config"]):
            await consumer.ensure(self._connection, stream, wanted, info, refilter=False)

    async def _send(self, told: GivenUpAdvisory) -> None:
        found = await leader_message(self._connection, told.stream, {"seq": told.stream_seq})
        if found is None:
            return
        pairs = header.pairs(found.header or b"")
        place = Origin(told.stream, told.stream_seq, found.stored_ns, sharding.original(found.subject))
        if told.stream == AGAIN:
            place = origin.read(dict(pairs)) or place
        own = f"{told.stream}:{told.stream_seq}.{found.stored_ns}:{self._target}:stranded"
        made = Outgoing(self._target, found.body, (*origin.build(place, pairs), ("Nats-Msg-Id", own)))
        await self._runtime.connection.publisher.publish_surely(made, PATIENCE_SECONDS)
        log.warning(
            "%s: the server had given up %s, because %s had a limit of deliveries; it runs again",
            self._function, identity.message_id(told.stream, told.stream_seq), told.consumer,
        )  # fmt: skip
