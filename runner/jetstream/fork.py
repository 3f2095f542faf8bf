"""A child that a handler forks: it gets its own signals, and none of our sockets.

Rule 1: in the child SIGTERM and SIGINT do what they do in any Python program, and no signal wakes our loop. They are
        blocked over the fork: one that comes before the child has its own handlers would go to ours, and nowhere.
Rule 2: our sockets are not open in the child: the server sees our end at once when we are killed and the child lives.
        A descriptor's number stays taken, by the null device: nothing of the child's is closed in its name later.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ASKING = (signal.SIGTERM, signal.SIGINT)

_ours: set[Callable[[], int | None]] = set()
_masks = threading.local()


@contextmanager
def ours(descriptor: Callable[[], int | None]) -> Iterator[None]:
    """Let a child have no socket that `descriptor` tells of; it is asked at each fork, for the time of the block."""
    _ours.add(descriptor)
    try:
        yield
    finally:
        _ours.discard(descriptor)


def _before() -> None:
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING) if _ours else None


def _after() -> None:
    if (mask := getattr(_masks, "before", None)) is not None:
        _masks.before = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    try:
        if _ours:  # else this is no running process of functions, and its forks are no business of ours
            _let_go()
    finally:
        _after()


def _let_go() -> None:
    with suppress(ValueError):  # in a thread that is not the main one, even in the child
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in list(_ours):
        with suppress(OSError):
            number = descriptor()
            if number is not None and number >= 0:
                os.dup2(null, number)
    os.close(null)
    _ours.clear()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
