"""Work that a handler has returned instead of doing it: awaited, or refused; never acknowledged undone."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Future
from types import AsyncGeneratorType, GeneratorType
from typing import Any

WORK = (Future, GeneratorType, AsyncGeneratorType)
"""Types of what is work, too, and has no `__await__`."""
DEEPEST = 8
"""Awaitables that return the next one: more of them never end."""


def is_work(result: Any) -> bool:
    """Whether what a handler has returned is yet to be done; so is everything of its type, or nothing."""
    return hasattr(type(result), "__await__") or isinstance(result, WORK)


async def finished(result: Any) -> Any:
    """What a handler has returned, once it is done. Raises what it raises, and TypeError for what nothing would run."""
    for _ in range(DEEPEST):
        if result is None or not is_work(result):
            return result
        if isinstance(result, Future):
            result = await asyncio.wrap_future(result)
        elif inspect.isawaitable(result):
            result = await result
        else:
            raise TypeError(
                f"the handler returned a {type(result).__name__}, which nothing would run: write `yield from` or `async for`"
            )
    raise TypeError(f"the handler returned a {type(result).__name__} that returns another, {DEEPEST} times")
