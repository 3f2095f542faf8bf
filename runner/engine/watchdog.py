"""The watchdog: tells which line of user code blocks the event loop, from a thread of its own."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import FrameType

log = logging.getLogger("jetrunner.watchdog")

BLOCKED_SECONDS = 1.0


class Watchdog:
    """`beat` from the loop; when it stays away, the loop's stack is looked at once."""

    def __init__(self) -> None:
        self._thread_id = threading.get_ident()
        self._beat = time.monotonic()
        self._told = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jetrunner-watchdog", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def beat(self) -> None:
        """The loop is alive."""
        now = time.monotonic()
        if self._told:
            log.error("the event loop was blocked for %.1f s", now - self._beat)
            self._told = False
        self._beat = now

    def _watch(self) -> None:
        while not self._stopped.wait(0.25):
            if not self._told and time.monotonic() - self._beat > BLOCKED_SECONDS:
                self._told = True
                log.error("%s", describe(stack_of(self._thread_id)))


def stack_of(thread_id: int) -> FrameType | None:
    """The innermost frame of another thread, as it is right now."""
    return sys._current_frames().get(thread_id)  # noqa: SLF001  # the documented way, for all its underscore


def describe(frame: FrameType | None) -> str:
    """Which line blocks, as far as the stack shows it: the innermost one of the user's own code."""
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    own = [each for each in stack if each.f_globals.get("__name__", "").startswith("functions.")]
    if not stack:
        return "the event loop is blocked"
    at = (own or stack)[0]
    return (
        f"the event loop is blocked by {at.f_code.co_name} at {at.f_code.co_filename}:{at.f_lineno}; "
        "no lease is extended meanwhile. hint: make it `def`, which runs in a thread, or await"
    )
