"""One delivery of one message, and the source that settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from runner.core.history import NOTHING, Identity
from runner.jetstream.reply import identity


class Source(Protocol):
    """Where a delivery came from, and who settles it."""

    unsettled: dict[int, Delivery]
    limit: int
    abandons: bool
    """Whether a message is settled without its handler, when that ignores its timeout."""

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge it."""

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer it once with an ack verb that ends it."""

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Have it run again after `delay` seconds: it has failed."""

    def later(self, delivery: Delivery, delay: float) -> None:
        """Have it run after `delay` seconds: its handler has not started, and nothing failed."""

    def give_back(self, delivery: Delivery) -> None:
        """Return what has not started."""


class Joined(Struct, frozen=True):
    """The parts of a split event, in the place of the message that their function runs for."""

    subject: bytes
    """Of the first part."""
    body: bytes
    """All of their bodies, as `arguments.join` writes them."""
    header: bytes | None = None
    """Of the first part."""
    missing: tuple[int, ...] = ()
    """Indexes of parts that never came."""
    headers: tuple[bytes | None, ...] = ()
    """Of all parts."""


class Delivery(Struct, eq=False):
    """One delivery of one message. Everything stays bytes until someone asks."""

    subject: bytes
    reply: bytes
    header: bytes | None
    body: bytes
    sequence: int
    attempt: int
    """Deliveries of this message so far, this one included."""
    source: Source
    careful: bool
    """It was delivered before, and takes the long way."""
    extended: float = 0.0
    """When the server last heard of it from us; 0.0 until the sweeper has seen it."""
    started: float = 0.0
    """When its handler started; 0.0 before."""
    task: asyncio.Task[Any] | None = None
    """The slot's task while its handler runs."""
    deliveries: int = 0
    """How often it was delivered, where `attempt` counts something else."""
    lapsed: bool = False
    """The server has not heard of it for so long that another may have it."""
    overdue: bool = False
    """Its handler took too long and was cancelled."""
    abandoned: bool = False
    """Its handler ignored that; the message is settled without it."""
    in_cell: bool = False
    """Its handler runs in a process of its own."""
    recorded: bool = False
    """Its start is recorded as a suspect's."""
    finishing: bool = False
    """Its outcome is being settled."""
    span: Any = None
    """Of its attempt, where that is traced."""
    sent: Any = None
    """The span of the output that is on its way."""
    result: Any = None
    """What its handler has returned."""
    joined: Joined | None = None
    """The parts of a split event that its handler runs with."""

    @property
    def settled(self) -> bool:
        """Whether the server was told what became of it."""
        return self.source.unsettled.get(self.sequence) is not self


def newest(deliveries: Mapping[int, Delivery]) -> Identity:
    """The message of the highest number."""
    sequence = max(deliveries, default=0)
    return identity(deliveries[sequence].reply) if sequence else NOTHING
