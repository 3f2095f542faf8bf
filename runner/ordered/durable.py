"""The durable of one shard: it is made, its figures are read, and messages are answered that were delivered to another instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.core.address import Address
from runner.jetstream import consumer
from runner.ordered.shared import Shared


class ShardDurable:
    """The durable of one shard: its wanted configuration, and the server's word on it."""

    def __init__(self, shared: Shared, address: Address) -> None:
        self.stream = address.stream
        self.name = address.durable
        self._address = address
        self._subject = shared.pipeline.binding.subject.wildcard
        self._connection = shared.runtime.connection
        self._durables = shared.durables
        self.begin_at(0)

    def begin_at(self, start: int) -> None:
        """Set the first sequence of the stream that the durable reads; 0: all messages."""
        of = self._address
        self.config = consumer.of_shard(
            of.project, of.function, self._subject, of.generation, of.number, start
        )

    async def ensure(self) -> dict[str, Any]:
        """What the server says of the durable; a missing one is made first. Raises JetrunnerError."""
        return await self._durables.ensure(self.stream, self.config)

    async def found(self) -> dict[str, Any] | None:
        """What the server says of the durable; None if it is missing. Raises JetrunnerError."""
        return await consumer.info(self._connection, self.stream, self.name)

    async def info(self) -> dict[str, Any]:
        """What the server says of the durable, by one request; only a missing one is made. Raises JetrunnerError."""
        info = await self.found()
        return info if info is not None else await self.ensure()

    def answer(self, verb: bytes, sequences: Sequence[int], number: int) -> None:
        """Answer messages that were delivered to the previous owner: the server reads only the sequence in an ack's subject (measured)."""
        wire = self._connection.wire
        for sequence in sequences:
            reply = f"$JS.ACK.{self.stream}.{self.name}.1.{sequence}.{number}.0.0"
            wire.answer(reply.encode(), verb)
