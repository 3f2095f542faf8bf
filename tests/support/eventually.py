"""Wait for something to become true, never for seconds to pass."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar, cast, overload

import anyio

T = TypeVar("T")
SOONEST, LATEST = 0.01, 0.2
"""Seconds until the next look. Many of these wait at once, and a look may cost the server an answer."""


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], *, within: float = 60.0) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], *, within: float = 60.0) -> T: ...
async def eventually(predicate: Callable[[], Any], *, within: float = 60.0) -> Any:
    """Poll `predicate` (plain or async) until what it returns is truthy, and return that.

    An exception counts as "not yet". After `within` seconds: AssertionError with the last value or exception.
    """
    began = time.monotonic()
    deadline = began + within
    while True:
        last: Any = None
        cause: Exception | None = None
        try:
            last = predicate()
            if isawaitable(last):
                last = await last
        except Exception as error:  # noqa: BLE001 - anything may fail while it is not yet true
            cause = error
        if cause is None and last:
            return last
        if time.monotonic() >= deadline:
            raise AssertionError(_sentence(within, last, cause)) from cause
        await anyio.sleep(_pause(began))


def until(predicate: Callable[[], T], *, within: float = 60.0) -> T:
    """`eventually` for tests without an event loop."""
    began = time.monotonic()
    deadline = began + within
    while True:
        last: Any = None
        cause: Exception | None = None
        try:
            last = predicate()
        except Exception as error:  # noqa: BLE001 - anything may fail while it is not yet true
            cause = error
        if cause is None and last:
            return cast("T", last)
        if time.monotonic() >= deadline:
            raise AssertionError(_sentence(within, last, cause)) from cause
        time.sleep(_pause(began))


def _pause(began: float) -> float:
    """A tenth of the time that has been waited, within bounds."""
    return min(max(SOONEST, (time.monotonic() - began) / 10), LATEST)


def _sentence(within: float, last: object, cause: Exception | None) -> str:
    ending = f"it raised {cause!r}" if cause is not None else f"the last value was {last!r}"
    return f"not true within {within:g} s: {ending}"
