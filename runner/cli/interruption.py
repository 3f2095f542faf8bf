"""SIGINT and SIGTERM while messages are sent: the first ends the sending, the second the waiting for answers, too."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import anyio

from runner.cli.stopsignals import ASKING


class Interruption:
    """Whether the command was told to end, and by which signal."""

    def __init__(self) -> None:
        self.number = 0
        """The number of the signal; 0: none has come."""
        self.again = False
        """Whether a second signal came: the command does not wait for missing answers then."""

    @property
    def code(self) -> int:
        """The exit code for the signal, as in shells: 128 and its number; 0 without a signal."""
        return 128 + self.number if self.number else 0

    @contextmanager
    def listening(self) -> Iterator[anyio.CancelScope]:
        """Listen for signals for the time of the block, in the running loop; the first one cancels the scope."""
        loop, scope = asyncio.get_running_loop(), anyio.CancelScope()

        def asked(number: int, frame: FrameType | None) -> None:
            if self.number:
                self.again = True
                raise KeyboardInterrupt
            self.number = number
            loop.call_soon_threadsafe(scope.cancel)

        before = {number: signal.signal(number, asked) for number in ASKING}
        try:
            yield scope
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
