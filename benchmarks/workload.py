"""What is handled: an order of 150 bytes of JSON, and a body that knows when it was sent."""

from __future__ import annotations

import msgspec

SIZE = 150
"""Bytes of every body."""


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


def order() -> bytes:
    """One body for all: what differs between messages is not what is measured."""
    empty = msgspec.json.encode(Order("o-123456", "customer-42", 99.5, [1, 2, 3, 4, 5, 6], ""))
    return msgspec.json.encode(
        Order("o-123456", "customer-42", 99.5, [1, 2, 3, 4, 5, 6], "x" * (SIZE - len(empty)))
    )


def timed(sent: int) -> bytes:
    empty = len(msgspec.json.encode(Timed(sent, "")))
    return msgspec.json.encode(Timed(sent, "x" * (SIZE - empty)))
