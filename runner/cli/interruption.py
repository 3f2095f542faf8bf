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
        """Of the signal; 0: nobody has told it to end."""
        self.again = False
        """Whether it was told twice: what is not known by now is not waited for."""

    @property
    def code(self) -> int:
        """The exit code, as shells have it; 0 without a signal."""
        return 128 + self.number if self.number else 0

    @contextmanager
    def listening(self) -> Iterator[anyio.CancelScope]:
        """Listen for the time of the block, in the running loop; the scope is cancelled by the first signal."""
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
