"""A child process that a handler forks: it gets signals of its own, and none of our sockets.

Rule 1: in the child SIGTERM and SIGINT do what they do in any Python program, and no signal wakes our event loop. They are blocked
        during the fork: a signal that came before the child has its own handlers would go to ours, and be lost.
Rule 2: our sockets are not open in the child, so that the server notices at once if we are killed while the child lives. The null
        device keeps the number of each descriptor, so that no later descriptor of the child is closed by mistake.
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
    """Keep a socket out of forked children for the time of the block; `descriptor` gives the socket's descriptor at each fork."""
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
        if _ours:  # else this process runs no functions, and its forks do not concern us
            _let_go()
    finally:
        _after()


def _let_go() -> None:
    with suppress(ValueError):  # in a thread other than the main one, even in the child
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
