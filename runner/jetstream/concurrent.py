"""Things that are awaited together: when one fails, the others are cancelled and have ended before its error is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, overload

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
    """What they give, in their order. Raises the first error."""
    tasks: list[asyncio.Task[Any]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += map(group.create_task, all_of_them)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return tuple(task.result() for task in tasks)


async def map_concurrently(ask: Callable[[Item], Coroutine[Any, Any, T]], items: Sequence[Item]) -> list[T]:
    """What `ask` gives for each item, 64 at a time: the server answers others in between. Raises the first error."""
    found: list[T] = []
    for begin in range(0, len(items), AT_ONCE):
        found += await gather(*map(ask, items[begin : begin + AT_ONCE]))
    return found
