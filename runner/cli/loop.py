"""The event loop that commands run in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run to the end and give the result, on uvloop where it is installed."""
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": find_spec("uvloop") is not None})
