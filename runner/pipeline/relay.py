"""The relay: publishes delayed messages once they are due, with the same Msg-Id at every try.

Rule 1: a message that cannot be stored gives up its place after 5 s and comes again, so that others do not wait for it.
Rule 2: once a message is stored at its target, it is removed from our own stream, so that a durable that was deleted and made again
        does not relay it a second time.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial

import anyio

from runner.core import header, identity
from runner.core.news import News
from runner.errors import JetrunnerError, PermissionDenied, ServerError
from runner.jetstream import codes, consumer, ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.delivery import Delivery
from runner.jetstream.listing import listed
from runner.jetstream.messages import remove
from runner.jetstream.place import Place
from runner.jetstream.publisher import Outgoing, retry_until
from runner.jetstream.pull import Pull
from runner.jetstream.refusal import refused
from runner.pipeline import delayed
from runner.runtime.histories import START_SECONDS
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.relay")

LIMIT = 64
PATIENCE_SECONDS = 5.0
REPEAT_SECONDS = 60.0
"""The longest wait before the next try of a message that could not be stored."""


async def unpublished(connection: Connection, project: str) -> int:
    """How many delayed messages of a project are due and not published yet, as far as the server tells."""
    try:
        durables = await listed(connection, f"CONSUMER.LIST.{ownstreams.AGAIN}", "consumers")
    except ServerError as error:
        if error.code not in codes.NO_CONSUMER:
            raise
        return 0
    info = durables.told.get(identity.durable(project, "-relay"))
    return int(info["num_pending"]) + int(info["num_ack_pending"]) if info is not None else 0


class Relay:
    """A durable on `$JETRUNNER.due.<project>`, shared by all instances."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        durable = identity.durable(runtime.project, "-relay")
        self._config = consumer.config(durable, delayed.due_subject(runtime.project), "all", "-relay")
        self._pull = Pull(runtime.connection, ownstreams.AGAIN, durable, LIMIT, self._arrived, self._lost)
        self._stopping = False
        self._missing = False

    async def start(self) -> None:
        """Find or make the durable, and start to pull."""
        ensure = partial(consumer.ensure, self._runtime.connection, ownstreams.AGAIN, self._config)
        try:
            await retry_until(ensure, START_SECONDS, "the durable of the relay")
        except JetrunnerError as error:
            durable = self._config.durable_name
            raise refused("the relay of delayed messages", durable, ownstreams.AGAIN, error) from None
        self._runtime.histories.of(ownstreams.AGAIN).add(self._pull)
        await self._pull.open()

    @property
    def unsettled(self) -> int:
        """Messages that are being relayed."""
        return len(self._pull.unsettled)

    async def stop_pulling(self) -> None:
        """Ask for no more messages."""
        self._stopping = True
        await self._pull.close()

    async def abandon(self) -> None:
        """Give back the messages that were not relayed."""
        for delivery in list(self._pull.unsettled.values()):
            self._pull.settle(delivery, b"-NAK")

    def sweep(self, now: float) -> None:
        """Extend ack waits; called about every 100 ms."""
        self._pull.watch(now)
        for delivery in self._pull.unsettled.values():
            if not delivery.extended:
                delivery.extended = now
            elif now - delivery.extended >= self._pull.extend_every:
                self._pull.extend(delivery, now)

    def _arrived(self, delivery: Delivery) -> None:
        if self._stopping:
            self._pull.settle(delivery, b"-NAK")
        else:
            self._runtime.tasks.start_soon(self._relay, delivery)

    async def _relay(self, delivery: Delivery) -> None:
        inbox = self._runtime.connection.inbox
        message = delayed.due(header.pairs(delivery.header or b""), delivery.body, inbox.is_one)
        if isinstance(message, str):
            log.error(
                "message %d on %s cannot be published: %s", delivery.sequence, self._pull.stream, message
            )
            await self._remove(delivery)
            delivery.source.settle(delivery, b"+TERM it is not published")
            return
        try:
            await self._publish(message)
        except (ServerError, ValueError) as error:
            log.error("a delayed message to %s cannot be published yet: %s", message.subject, error)
            await delivery.source.again(delivery, min(REPEAT_SECONDS, 2.0 ** min(delivery.attempt, 10)))
        else:
            await self._remove(delivery)
            delivery.source.settle(delivery, b"+ACK")

    async def _publish(self, message: Outgoing) -> None:
        """Publish a message, but not into a stream without acks: there it would be published, and stored, again and again."""
        topology = self._runtime.topology
        doubt = partial(topology.doubt, (message.subject,))
        if topology.config(topology.known(message.subject) or "").get("no_ack"):
            await doubt()
        ack = await self._runtime.connection.publisher.publish_surely(message, PATIENCE_SECONDS, doubt=doubt)
        if not ack.duplicate:
            place = Place(ack.stream, ack.seq, dict(message.headers)["Nats-Msg-Id"])
            self._runtime.histories.of(ownstreams.AGAIN).stored.note(place)

    async def _remove(self, delivery: Delivery) -> None:
        """Remove a message, unless its sequence is another message's by now: the stream may have gone back, or be another one."""
        try:
            with suppress(PermissionDenied):
                await self._runtime.histories.of(ownstreams.AGAIN).check(thorough=False)
            if delivery.source is not self._pull:
                return
            await remove(self._runtime.connection, ownstreams.AGAIN, delivery.sequence)
        except ServerError as error:  # the message stays, which is harmless as long as the durable is there
            log.debug("message %d of %s cannot be deleted: %s", delivery.sequence, ownstreams.AGAIN, error)

    def _lost(self) -> None:
        if not self._stopping and not self._missing:
            self._missing = True
            self._runtime.tasks.start_soon(self._recover)

    async def _recover(self) -> None:
        news, wait = News(), 0.1
        while not self._stopping:
            try:
                await ownstreams.restore(self._runtime.connection, ownstreams.AGAIN)
                await consumer.ensure(self._runtime.connection, ownstreams.AGAIN, self._config)
                break
            except JetrunnerError as error:
                news.warn(log, "relay: %s", error)
            await anyio.sleep(wait)
            wait = min(5.0, wait * 2)
        self._missing = False
        self._pull.ask_again()
