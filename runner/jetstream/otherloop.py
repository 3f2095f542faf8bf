"""Calls from another loop than the connection's: `asyncio.run` in the thread of a `def` handler.

Futures of one loop never end in another. So the call is passed to the loop that the connection lives in; where that loop does
not run, it is refused at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, TypeVar

T = TypeVar("T")


def is_other(loop: asyncio.AbstractEventLoop, thread: int) -> bool:
    """Whether the loop that runs here is not this one, which was made in that thread. Raises RuntimeError where none runs.

    No thread runs two loops at once; `get_running_loop` alone would be a call of the system each time.
    """
    if get_ident() == thread and loop.is_running():
        return False
    return asyncio.get_running_loop() is not loop


async def passed_on(
    loop: asyncio.AbstractEventLoop, call: Callable[[], Coroutine[Any, Any, T]], seconds: float
) -> T:
    """What `call` returns or raises in that loop. Raises TimeoutError when the loop gives no answer in so many seconds."""
    if not loop.is_running():
        raise RuntimeError("the loop that this connection was made in does not run any more")
    made = call()
    try:
        asked = asyncio.run_coroutine_threadsafe(made, loop)
    except RuntimeError:  # closed meanwhile
        made.close()
        raise
    async with asyncio.timeout(seconds):
        return await asyncio.wrap_future(asked)
