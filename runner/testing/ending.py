"""The end of the functions that a test has run: it waits for handlers that still run, but not for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from runner.process.served import Served
from runner.runtime.stop import Stop

log = logging.getLogger("jetrunner.testing")

FINISH_SECONDS = 2.0
"""Time to finish for handlers that still run when the block ends; then they are cancelled."""
CLEAN_SECONDS = 1.5
"""Time for a cancelled handler to clean up; a handler that goes on after that is ended where it waits.

This is less than the 3 s after which the process cancels handlers over and over: from then on their places cannot be seen."""
TEAR_SECONDS = 0.1
TEARS = 5
LAST_SECONDS = 6.0
"""Time for the rest of the end: messages are given back, and the lifespan ends."""


class Unsettled(AssertionError):  # noqa: N818  named by what is wrong, as its siblings are
    """Messages, requests or handlers were still open when the time was over."""


class Torn(BaseException):
    """Raised in a handler that ignores its cancellation, at the end of its test."""


async def ended(serving: asyncio.Task[None], stop: Stop, functions: Sequence[Served]) -> list[str]:
    """End the functions; returns what was still at work after `FINISH_SECONDS`, a line each.

    Raises the error that the functions ended with.
    """
    stop.drain()
    await asyncio.wait({serving}, timeout=FINISH_SECONDS)
    left: list[str] = []
    if not serving.done():
        left = [f"{each.binding.function}: {what}" for each in functions for what in each.at_work]
        stop.request()
        await asyncio.wait({serving}, timeout=CLEAN_SECONDS)
    if not serving.done():
        left += await _torn(serving)
    if serving.done():
        await serving
    return left


def told(left: Sequence[str]) -> str:
    """The result of `ended` as the text of an error."""
    lines = "\n".join(f"  {each}" for each in left)
    return f"cancelled: still at work {FINISH_SECONDS:g} s after the test:\n{lines}"


async def _torn(serving: asyncio.Task[None]) -> list[str]:
    """End handlers that ignore their cancellation, or take long to clean up; returns the places where they stood, a line each."""
    left = [
        f"{task.get_name().removesuffix(' slot')}: ignores its cancellation{_at(task)}" for task in _slots()
    ]
    for _ in range(TEARS):
        for end in (_tear, asyncio.Task.cancel):  # the second for the slot, which waits for its next message
            for task in _slots():
                end(task)
            await asyncio.wait({serving}, timeout=TEAR_SECONDS)
    if not serving.done():
        await asyncio.wait({serving}, timeout=LAST_SECONDS)
    if not serving.done():
        left.append(f"the process of the functions does not end{_at(serving)}")
        serving.cancel()
        await asyncio.wait({serving}, timeout=TEAR_SECONDS)
        log.error("asyncio waits for ever for tasks that do not end:\n%s", "\n".join(left))
    return left


def _slots() -> list[asyncio.Task[Any]]:
    return [each for each in asyncio.all_tasks() if each.get_name().endswith(" slot")]


def _tear(task: asyncio.Task[Any]) -> None:
    """Raise `Torn` in a task, in the innermost future that it waits for. asyncio has no other way to reach that future."""
    waits_for: Any = getattr(task, "_fut_waiter", None)
    while isinstance(waits_for, asyncio.Task):
        waits_for = getattr(waits_for, "_fut_waiter", None)
    if isinstance(waits_for, asyncio.Future) and not waits_for.done():
        waits_for.set_exception(Torn("the test has ended"))


def _at(task: asyncio.Task[Any]) -> str:
    """` at FILE:LINE`, the innermost line of code that is neither asyncio's nor anyio's; empty without one."""
    waits: Any = task.get_coro()
    found = ""
    while waits is not None:
        frame: Any = getattr(waits, "cr_frame", None) or getattr(waits, "ag_frame", None)
        if frame is not None and not frame.f_globals.get("__name__", "").startswith(("asyncio", "anyio")):
            found = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        waits = getattr(waits, "cr_await", None) or getattr(waits, "ag_await", None)
    return found
