"""Awaits several things together: if one fails, the others are cancelled and have ended before its error is raised."""

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
    """The results, in order. Raises the first error.

    asyncio's own task group is not used: if one of its tasks fails while it waits for them, Python 3.11 leaves the surrounding task
    marked as being cancelled, and open cancel scopes then raise their own cancellation when they end.
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
    """The results of `ask` for all items, 64 at a time so that the server can answer others in between. Raises the first error."""
    found: list[T] = []
    for begin in range(0, len(items), AT_ONCE):
        found += await gather(*map(ask, items[begin : begin + AT_ONCE]))
    return found
