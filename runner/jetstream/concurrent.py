"""Many requests of one kind, 64 at a time: the server answers others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

AT_ONCE = 64


async def map_concurrently(ask: Callable[[Item], Awaitable[T]], items: Sequence[Item]) -> list[T]:
    """What `ask` gives for each item, in their order. Raises the first error, and begins no others then."""
    found: list[T] = []
    for begin in range(0, len(items), AT_ONCE):
        found += await asyncio.gather(*map(ask, items[begin : begin + AT_ONCE]))
    return found
