"""The event loop that commands run in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]], *, fast: bool = True) -> T:
    """Run to the end and give the result, on uvloop where it is installed; not `fast`: on asyncio's own loop.

    What starts processes stays on asyncio's: uvloop knows no process groups.
    """
    uvloop = fast and find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": uvloop})
