"""The line between a process and a cell of its: what goes each way, one object a frame.

Both ends run the same code as the same user, and the line is an inherited socket that no other process has.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from runner.config import Settings
from runner.core import raised
from runner.core.retry import RetryPolicy
from runner.core.settlement import Failed, Outcome, Succeeded, Undecodable
from runner.core.signals import Reject, Retry
from runner.jetstream.delivery import Joined
from runner.runtime.blame import Elsewhere, trace_of, where
from runner.staged import Staged

SIZE = 8
"""Bytes of a frame's length."""


class Given(Struct, frozen=True):
    """Functions that do not stand in a project's folder: those of a test."""

    path: tuple[str, ...]
    """Where modules are imported from."""
    project: bytes
    """A pickled call that gives the project."""


class CellSetup(Struct, frozen=True):
    """The first word to a cell: whose code it runs, and how it reaches NATS."""

    root: Path
    name: str
    settings: Settings
    given: Given | None = None
    """Where that is not the code in `root`."""
    niceness: int = 0
    """How much lower its priority is than that of the process that has started it."""


class Ready(Struct, frozen=True):
    """A cell's first word: the code is imported, and the lifespan has begun."""


class Unfit(Struct, frozen=True):
    """A cell cannot run what it was given, and why."""

    why: str


class Begun(Struct, frozen=True):
    """A cell has taken a job: from here on its end may be the job's doing."""


class Late(Struct, frozen=True):
    """The job came after the time in which it might start; nothing has started."""


class Job(Struct, frozen=True):
    """One attempt at a message."""

    function: str
    subject: bytes
    reply: bytes
    header: bytes | None
    body: bytes
    sequence: int
    attempt: int
    shard: int | None
    until: float
    """The handler may start before this moment of the monotonic clock, which all processes of a machine share."""
    trace: list[tuple[str, str]]
    """Headers that continue the trace of the attempt."""
    joined: Joined | None = None
    """The parts that it runs with."""


class Report(Struct, frozen=True):
    """How the handler ended, and what it has made."""

    ended: Literal["succeeded", "failed", "undecodable"]
    made: list[Staged] = []
    error: bytes = b""
    """The exception, pickled; empty where it cannot be."""
    name: str = ""
    words: str = ""
    retries: bool = True
    """Whether the function's policy retries it."""
    traceback: str = ""
    place: str = ""
    """Where in the project's code it was raised."""

    @classmethod
    def of(cls, error: BaseException, policy: RetryPolicy, root: Path, *, decoding: bool = False) -> Report:
        """What was raised."""
        return cls(
            "undecodable" if decoding else "failed",
            error=_pickled(error),
            name=raised.name(error),
            words=raised.text(error),
            retries=isinstance(error, Retry) or policy.verdict(error) == "retry",
            traceback=trace_of(error),
            place=where(Failed(error), root),
        )

    @property
    def outcome(self) -> Outcome:
        """The same as if it had ended here; an exception tells its traceback by its cause."""
        if self.ended == "succeeded":
            return Succeeded()
        error = self._raised()
        error.__cause__ = Elsewhere(self.traceback, self.place)
        return (
            Undecodable(error)
            if isinstance(error, Exception) and self.ended == "undecodable"
            else Failed(error)
        )

    def _raised(self) -> BaseException:
        try:
            error = pickle.loads(self.error)  # noqa: S301  # of our own process
            if isinstance(error, BaseException):
                return error
        except Exception:  # noqa: BLE001, S110  # of code of the user's, which may raise anything
            pass
        kind = type(self.name, (Retry if self.retries else Reject,), {})
        stand_in: BaseException = kind(self.words)
        return stand_in


def _pickled(error: BaseException) -> bytes:
    try:
        frame = pickle.dumps(error)
        return frame if type(pickle.loads(frame)) is type(error) else b""  # noqa: S301
    except Exception:  # noqa: BLE001  # of code of the user's, which may raise anything
        return b""


class CellLine:
    """One end of a line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> CellLine:
        """Take one of a pair of sockets."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end))

    async def send(self, word: Any) -> None:
        """Send one object; one that goes nowhere is found out by `receive`."""
        frame = pickle.dumps(word)
        try:
            self._writer.write(len(frame).to_bytes(SIZE, "big") + frame)
            await self._writer.drain()
        except OSError:
            return

    async def receive(self) -> Any:
        """The next object; None once the other end is gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(SIZE), "big")
            return pickle.loads(await self._reader.readexactly(size))  # noqa: S301  # of our own process
        except (OSError, asyncio.IncompleteReadError):
            return None

    def close(self) -> None:
        """The other end is told by the line's end."""
        self._writer.close()
