"""The durable of one shard: made, looked at, and answered for messages whose deliveries another has got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.core.address import Address
from runner.jetstream import consumer
from runner.ordered.shared import Shared


class ShardDurable:
    """As it should be, and as the server says that it is."""

    def __init__(self, shared: Shared, address: Address) -> None:
        self.stream = address.stream
        self.name = address.durable
        self._address = address
        self._subject = shared.pipeline.binding.subject.wildcard
        self._connection = shared.runtime.connection
        self._durables = shared.durables
        self.begin_at(0)

    def begin_at(self, start: int) -> None:
        """The first sequence of the stream that it shall ever read; 0: all."""
        of = self._address
        self.config = consumer.of_shard(
            of.project, of.function, self._subject, of.generation, of.number, start
        )

    async def ensure(self) -> dict[str, Any]:
        """How it is; it is made where it is not there. Raises JetrunnerError."""
        return await self._durables.ensure(self.stream, self.config)

    async def found(self) -> dict[str, Any] | None:
        """How it is, None where it is not there. Raises JetrunnerError."""
        return await consumer.info(self._connection, self.stream, self.name)

    async def info(self) -> dict[str, Any]:
        """How it is, by one request; only a durable that is not there is made. Raises JetrunnerError."""
        info = await self.found()
        return info if info is not None else await self.ensure()

    def answer(self, verb: bytes, sequences: Sequence[int], number: int) -> None:
        """In the predecessor's name: of an ack's subject the server takes the sequence alone (measured)."""
        wire = self._connection.wire
        for sequence in sequences:
            reply = f"$JS.ACK.{self.stream}.{self.name}.1.{sequence}.{number}.0.0"
            wire.answer(reply.encode(), verb)
