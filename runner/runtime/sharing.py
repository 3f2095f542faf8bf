"""Sharing Python's lock: while handlers run in threads, the lock changes hands more often.

A thread that computes keeps the lock for a switch interval each time, 5 ms unless it is set: with six of them the loop waits 30 ms for
its turn, and then again. At 0.5 ms it waits 3 ms.
"""

from __future__ import annotations

import sys
import threading

SWITCH_SECONDS = 0.0005


class Sharing:
    """As a context, held in the thread of each handler for as long as it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._threads += 1
            if self._threads == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, SWITCH_SECONDS))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                sys.setswitchinterval(self._before)


SHARING = Sharing()
"""The process's own: the interval is one for all threads of it."""
