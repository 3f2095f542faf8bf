"""One delivery of one message, and the source that settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from runner.core.history import NOTHING, Identity
from runner.jetstream.reply import identity


class Source(Protocol):
    """Where a delivery came from; it settles the delivery."""

    unsettled: dict[int, Delivery]
    limit: int
    abandons: bool
    """Whether a message is settled without its handler if the handler ignores its timeout."""

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge a delivery."""

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer a delivery once, with an ack verb that ends it."""

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Run the message again after `delay` seconds, because it has failed."""

    def later(self, delivery: Delivery, delay: float) -> None:
        """Run the message after `delay` seconds; its handler has not started, and it has not failed."""

    def give_back(self, delivery: Delivery) -> None:
        """Give back a message that has not started."""


class JoinedParts(Struct, frozen=True):
    """The parts of a split event, which their function gets in place of a message."""

    subject: bytes
    """The subject of the first part."""
    body: bytes
    """The bodies of all parts, as `arguments.join` writes them."""
    header: bytes | None = None
    """The header block of the first part."""
    missing: tuple[int, ...] = ()
    """Indexes of parts that never came."""
    headers: tuple[bytes | None, ...] = ()
    """The header blocks of all parts."""


class Delivery(Struct, eq=False):
    """One delivery of one message. Its parts stay bytes until they are needed."""

    subject: bytes
    reply: bytes
    header: bytes | None
    body: bytes
    sequence: int
    attempt: int
    """How many times the message was delivered so far, this delivery included."""
    source: Source
    careful: bool
    """Whether it was delivered before, and so takes the careful way."""
    extended: float = 0.0
    """When the server last heard from us about it; 0.0 until the sweeper has seen it."""
    started: float = 0.0
    """When its handler started; 0.0 before."""
    task: asyncio.Task[Any] | None = None
    """The slot's task while its handler runs."""
    deliveries: int = 0
    """How many times it was delivered, if `attempt` counts something else."""
    lapsed: bool = False
    """Whether the server has not heard of it for so long that another instance may have it."""
    overdue: bool = False
    """Whether its handler took too long and was cancelled."""
    abandoned: Source | None = None
    """If its handler ignored that, and the message is settled without it: where the slot was taken away that the handler holds."""
    rests: bool = False
    """Whether it waits here for its next attempt."""
    in_cell: bool = False
    """Whether its handler runs in a process of its own."""
    recorded: bool = False
    """Whether its start is recorded as that of a suspect."""
    finishing: bool = False
    """Whether its outcome is being settled."""
    span: Any = None
    """The span of its attempt, if that is traced."""
    sent: Any = None
    """The span of the output that is on its way."""
    result: Any = None
    """What its handler has returned."""
    joined: JoinedParts | None = None
    """The parts of a split event that its handler runs with."""

    @property
    def settled(self) -> bool:
        """Whether the message was settled here."""
        return self.source.unsettled.get(self.sequence) is not self


def newest(deliveries: Mapping[int, Delivery]) -> Identity:
    """The message with the highest sequence."""
    sequence = max(deliveries, default=0)
    return identity(deliveries[sequence].reply) if sequence else NOTHING
