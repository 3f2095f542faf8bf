"""Sharing Python's lock: while handlers run in threads, the lock changes hands more often.

A computing thread keeps the lock for one switch interval each time, 5 ms by default. With six such threads the event loop waits 30
ms for each of its turns. At 0.5 ms it waits 3 ms.
"""

from __future__ import annotations

import sys
import threading

SWITCH_SECONDS = 0.0005


class Sharing:
    """A context that each thread holds while it runs a handler."""

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
"""The only one in the process, because the interval applies to all threads."""
