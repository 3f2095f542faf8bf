"""What is handled: an order in JSON, the headers that publishers send with it, and a body that knows when it was sent."""

from __future__ import annotations

import msgspec

SIZE = 150
"""Bytes of a body, where nothing else is said."""


class Order(msgspec.Struct):
    id: str
    customer: str
    total: float
    items: list[int]
    note: str


class Timed(msgspec.Struct):
    sent: int
    """Nanoseconds of the machine's monotonic clock, right before the message was written to the socket."""
    note: str


def order(size: int = SIZE) -> bytes:
    """One body for all: what differs between messages is not what is measured."""
    empty = msgspec.json.encode(Order("o-123456", "customer-42", 99.5, [1, 2, 3, 4, 5, 6], ""))
    return msgspec.json.encode(
        Order("o-123456", "customer-42", 99.5, [1, 2, 3, 4, 5, 6], "x" * (size - len(empty)))
    )


def usual(number: int) -> dict[str, str]:
    """Headers of a message as publishers send them: an id, a trace that is not sampled, one of the user's."""
    return {
        "Nats-Msg-Id": f"order-{number}",
        "traceparent": f"00-{number + 1:032x}-{number + 1:016x}-00",
        "Tenant": "acme",
    }


def timed(sent: int) -> bytes:
    empty = len(msgspec.json.encode(Timed(sent, "")))
    return msgspec.json.encode(Timed(sent, "x" * (SIZE - empty)))
