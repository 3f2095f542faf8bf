"""SIGINT and SIGTERM: the first drains, the second cancels what still runs, the third ends the process.

A worker does nothing at these signals: its supervisor tells it of each one.
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
"""Seconds in which the connection is closed and the last spans are sent; each of the two has a limit of its own, too."""


ASKING = (signal.SIGTERM, signal.SIGINT)


def leave_to_parent() -> None:
    """Do nothing at SIGTERM and SIGINT, which systemd and terminals send to the whole process group: the parent decides.

    A function that does nothing handles them: if they were ignored, the programs that a handler starts would ignore them, too.
    """
    for number in ASKING:
        signal.signal(number, _nothing)


def leave_to_the_end() -> None:
    """Ignore SIGTERM and SIGINT, because this process is ending already.

    Python restores the default handlers while it finalizes. A signal would then kill a worker that has done all its work.
    """
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)


def _nothing(number: int, frame: FrameType | None) -> None: ...


def end_in_any_case(code: int) -> None:
    """End the process within seconds, even if a handler, a task or a thread of the user's does not end."""

    def end() -> None:
        log.warning(
            "a task or thread of the functions does not end; the process exits without waiting for it"
        )
        os._exit(code)

    timer = threading.Timer(CLOSING_SECONDS, end)
    timer.daemon = True
    timer.start()


@contextmanager
def stopping(stop: Stop, *, before_exit: Callable[[], None] | None = None) -> Iterator[None]:
    """For the time of the block, each SIGTERM or SIGINT is a request to `stop`, in the running loop.

    These are plain signal handlers, not the loop's: they run even while a handler blocks the loop.
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
