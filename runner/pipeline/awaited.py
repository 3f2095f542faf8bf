"""Work that a handler has returned instead of doing it: it is awaited or refused.

A message whose work is undone is never acknowledged.
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Future
from types import AsyncGeneratorType, GeneratorType
from typing import Any

WORK = (Future, GeneratorType, AsyncGeneratorType)
"""Types of unfinished work that have no `__await__`."""
DEEPEST = 8
"""The most awaitables that may return one another; a longer chain is taken for endless."""


def is_work(result: Any) -> bool:
    """Whether a handler's result is work that is yet to be done; the answer is the same for all values of its type."""
    return hasattr(type(result), "__await__") or isinstance(result, WORK)


async def finished(result: Any) -> Any:
    """A handler's result, once its work is done. Raises the errors of the work, and TypeError for work that nothing would run."""
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
