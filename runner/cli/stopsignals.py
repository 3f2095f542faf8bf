"""SIGINT and SIGTERM: the first drains, the second cancels what still runs, the third ends the process.

A worker does nothing at either: its supervisor tells it what was asked, once for each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from runner.runtime.stop import Stop

log = logging.getLogger("jetrunner")

WORDS = {
    1: "%s: once more cancels what still runs",
    2: "%s: once more ends the process at once",
}

CLOSING_SECONDS = 6.0
"""Time to close the connection and to send the last spans; both are bounded, too."""


ASKING = (signal.SIGTERM, signal.SIGINT)


def leave_to_parent() -> None:
    """Do nothing at a signal that asks to end: systemd and a terminal send it to the whole process group.

    A function that does nothing, for what is ignored stays so in programs that a handler starts.
    """
    for number in ASKING:
        signal.signal(number, _nothing)


def leave_to_the_end() -> None:
    """Ignore a signal that asks to end, for this process ends already.

    Python gives signals back their default while it finalizes, and a worker that has done all would seem to be killed.
    """
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)


def _nothing(number: int, frame: FrameType | None) -> None: ...


def end_in_any_case(code: int) -> None:
    """End the process within seconds, even if a handler, a task or a thread of the user's does not end."""

    def end() -> None:
        log.warning("something of the functions' ignores the end: the process ends without it")
        os._exit(code)

    timer = threading.Timer(CLOSING_SECONDS, end)
    timer.daemon = True
    timer.start()


@contextmanager
def stopping(stop: Stop, *, before_exit: Callable[[], None] | None = None) -> Iterator[None]:
    """Ask `stop` for the time of the block, in the running loop.

    Plain signal handlers, not the loop's: they run while a handler blocks the loop.
    """
    loop = asyncio.get_running_loop()
    count = 0

    def asked(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count >= 3:
            if before_exit is not None:
                before_exit()
            os._exit(128 + number)
        loop.call_soon_threadsafe(tell, number, count)

    def tell(number: int, nth: int) -> None:
        log.info(WORDS[nth], signal.Signals(number).name)
        stop.request()

    before = {number: signal.signal(number, asked) for number in ASKING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
