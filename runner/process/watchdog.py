"""The watchdog: a thread that finds out what blocks the event loop, and logs it.

Either a line of user code blocks the loop itself, or handlers in threads compute, and leave the loop too little of Python's lock.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

log = logging.getLogger("jetrunner.watchdog")

BLOCKED_SECONDS = 1.0
LOOKS = 6
LOOK_SECONDS = 0.02
BUSY_SECONDS = 0.002
"""A thread counts as busy if it has computed for longer than this while it was looked at."""


class Watchdog:
    """The event loop calls `beat`. If no call comes for 1 s, the watchdog looks at the loop's stack, once for each blockage."""

    def __init__(self) -> None:
        self._thread_id = threading.get_ident()
        self._beat = time.monotonic()
        self._told = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jetrunner-watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def beat(self) -> None:
        """Note that the loop runs. If a blockage was logged, log how long it was."""
        now = time.monotonic()
        if self._told:
            log.error("the event loop was blocked for %.1f s", now - self._beat)
            self._told = False
        self._beat = now

    def _watch(self) -> None:
        while not self._stopped.wait(0.25):
            if not self._told and time.monotonic() - self._beat > BLOCKED_SECONDS:
                self._told = True
                log.error("%s", look(self._thread_id))


def look(thread_id: int) -> str:
    """Look at all threads for about 0.1 s: where the loop's thread stands, and which others compute. Returns the line to log."""
    first = stacks()
    held = own_code(first.get(thread_id))
    others = {
        thread: own for thread, frame in first.items() if thread != thread_id and (own := own_code(frame))
    }
    places = {thread: own[0].f_lasti for thread, own in others.items()}
    spent = cpu_seconds()
    stays, moved = bool(held), set[int]()
    for _ in range(LOOKS):
        time.sleep(LOOK_SECONDS)
        now = stacks()
        here = own_code(now.get(thread_id))
        stays = stays and bool(here) and here[-1] is held[-1]  # the same call into user code still runs
        moved |= {
            thread
            for thread, place in places.items()
            if (own := own_code(now.get(thread))) and own[0].f_lasti != place
        }
    since = cpu_seconds()
    busy = [
        own
        for thread, own in others.items()
        # CPU times are surer than places: a thread gives the lock away at the end of a round of its loop, mostly at the same place.
        if (
            since[thread] - spent[thread] > BUSY_SECONDS
            if thread in spent and thread in since
            else thread in moved
        )
    ]
    if stays or not busy:
        return describe(first.get(thread_id))
    at_work = busy[0][0]
    return (
        f"the event loop waits for Python's lock, which handlers in threads hold: {len(busy)} of them compute, one in "
        f"{at_work.f_code.co_name} at {at_work.f_code.co_filename}:{at_work.f_lineno}. hint: move what computes to another process "
        '(a ProcessPoolExecutor of the lifespan; executor="process" once it is available), or set a lower concurrency='
    )


def cpu_seconds() -> dict[int, float]:
    """Seconds of CPU time of each thread so far. Only Linux tells them; elsewhere the result is empty."""
    found = {}
    for thread in threading.enumerate():
        with suppress(OSError, ValueError, IndexError):
            told = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
            if thread.ident is not None:
                found[thread.ident] = int(told[0]) / 1e9
    return found


def stacks() -> dict[int, FrameType]:
    """The innermost frame of every thread, as it is right now."""
    return sys._current_frames()  # noqa: SLF001  # documented, in spite of its underscore


def own_code(frame: FrameType | None) -> list[FrameType]:
    """The frames of a stack that are user code, the innermost first."""
    return [each for each in stack_of(frame) if each.f_globals.get("__name__", "").startswith("functions.")]


def stack_of(frame: FrameType | None) -> list[FrameType]:
    """All frames of a stack, the innermost first."""
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack


def describe(frame: FrameType | None) -> str:
    """Say which line blocks, as far as the stack shows it: the innermost line of user code."""
    stack = stack_of(frame)
    if not stack:
        return "the event loop is blocked"
    at = (own_code(frame) or stack)[0]
    return (
        f"the event loop is blocked by {at.f_code.co_name} at {at.f_code.co_filename}:{at.f_lineno}; "
        "no ack wait is extended meanwhile. hint: make it `def`, which runs in a thread, or await"
    )
