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
    """Run to the end and give the result, on uvloop where it is installed; not `fast`: on asyncio's own loop.

    What starts processes stays on asyncio's: uvloop knows no process groups.
    """
    if fast:
        # Thousands of messages are under way at once, none of them garbage: looking at them every 700 objects costs a
        # tenth of all CPU (measured). What is imported by now stays.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
    uvloop = fast and find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": uvloop})
