"""Calls from another event loop than the connection's: `asyncio.run` in the thread of a `def` handler.

A future of one loop cannot end in another. So the call is passed to the connection's loop; if that loop does not run, the call is
refused at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, TypeVar

T = TypeVar("T")


def is_other(loop: asyncio.AbstractEventLoop, thread: int) -> bool:
    """Whether another loop runs here than `loop`, which was made in `thread`. Raises RuntimeError if none runs.

    The thread is compared first, because no thread runs two loops at once, and `get_running_loop` costs a system call each time.
    """
    if get_ident() == thread and loop.is_running():
        return False
    return asyncio.get_running_loop() is not loop


async def passed_on(
    loop: asyncio.AbstractEventLoop, call: Callable[[], Coroutine[Any, Any, T]], seconds: float
) -> T:
    """The result of `call`, run in that loop, or its error. Raises TimeoutError if the loop gives no answer in so many seconds."""
    if not loop.is_running():
        raise RuntimeError("the loop that this connection was made in does not run any more")
    made = call()
    try:
        asked = asyncio.run_coroutine_threadsafe(made, loop)
    except RuntimeError:  # the loop was closed meanwhile
        made.close()
        raise
    async with asyncio.timeout(seconds):
        return await asyncio.wrap_future(asked)
