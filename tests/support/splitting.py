"""A function that splits a message into parts, and what tests tell of the parts that it has made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from runner import RetryPolicy, consume
from runner.testing.app import Output

QUICK = RetryPolicy.fixed(1.0, attempts=3)


class Line(Struct):
    """One part."""

    n: int


@consume("orders.{name}", output="lines.{name}")
async def split(order: dict[str, Any]) -> AsyncIterator[Line]:
    """Make as many parts as the message says."""
    for number in range(order["lines"]):
        yield Line(number)


def place(part: Output, **others: str) -> dict[str, str]:
    """The headers that tell which part it is, some of them changed."""
    found = {name: value for name, value in part.headers.items() if name.startswith("Jetrunner-")}
    return found | {f"Jetrunner-{name}": value for name, value in others.items()}
