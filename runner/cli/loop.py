"""The event loop that commands run in."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

T = TypeVar("T")
YOUNG_OBJECTS = 10_000
"""New objects after which the collector looks for garbage among them."""


def run(main: Callable[[], Awaitable[T]], *, fast: bool = True) -> T:
    """Run `main` to its end and return its result, on uvloop if it is installed; if not `fast`, on asyncio's own loop.

    Commands that start processes use asyncio's own loop, because uvloop knows no process groups.
    """
    if fast:
        # Thousands of messages are under way at once, and none of them is garbage: to look at them every 700 objects costs a
        # tenth of all CPU (measured). The collector never looks at frozen objects: all that is imported by now.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
    uvloop = fast and find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": uvloop})
