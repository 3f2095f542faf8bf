"""Things that are awaited together: when one fails, the others are cancelled and have ended before its error is raised."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, overload

import anyio

T = TypeVar("T")
First = TypeVar("First")
Second = TypeVar("Second")
Item = TypeVar("Item")

AT_ONCE = 64


@overload
async def gather(
    one: Coroutine[Any, Any, First], other: Coroutine[Any, Any, Second], /
) -> tuple[First, Second]: ...
@overload
async def gather(*all_of_them: Coroutine[Any, Any, T]) -> tuple[T, ...]: ...
async def gather(*all_of_them: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """What they give, in their order. Raises the first error.

    Not by asyncio's own group: where one of its tasks fails while it waits for them, Python 3.11 leaves the task around it
    marked as being cancelled, and every scope that is open there lets its own cancellation out when it ends.
    """
    results: list[Any] = [None] * len(all_of_them)

    async def one(place: int, awaited: Coroutine[Any, Any, Any]) -> None:
        results[place] = await awaited

    try:
        async with anyio.create_task_group() as group:
            for place, awaited in enumerate(all_of_them):
                group.start_soon(one, place, awaited)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return tuple(results)


async def map_concurrently(ask: Callable[[Item], Coroutine[Any, Any, T]], items: Sequence[Item]) -> list[T]:
    """What `ask` gives for each item, 64 at a time: the server answers others in between. Raises the first error."""
    found: list[T] = []
    for begin in range(0, len(items), AT_ONCE):
        found += await gather(*map(ask, items[begin : begin + AT_ONCE]))
    return found
