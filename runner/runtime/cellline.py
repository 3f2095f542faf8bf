"""The line between a process and one of its cells: the objects that go each way, one object a frame.

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
from runner.jetstream.delivery import JoinedParts
from runner.runtime.blame import RaisedElsewhere, trace_of, where
from runner.staged import Staged

SIZE = 8
"""Bytes of the number before each frame that gives its length."""


class GivenFunctions(Struct, frozen=True):
    """Functions outside of a project's folder: those of a test."""

    path: tuple[str, ...]
    """The folders that modules are imported from."""
    project: bytes
    """A pickled call that returns the project."""


class CellSetup(Struct, frozen=True):
    """The first object sent to a cell: which code it runs, and how it reaches NATS."""

    root: Path
    name: str
    settings: Settings
    given: GivenFunctions | None = None
    """The functions, if they are not in `root`."""
    niceness: int = 0
    """How much lower the cell's priority is than that of the process that has started it."""


class Ready(Struct, frozen=True):
    """The first object from a cell: its code is imported, and its lifespan has begun."""


class UnfitCell(Struct, frozen=True):
    """The cell cannot run what it was given, and why."""

    why: str


class Begun(Struct, frozen=True):
    """The cell has taken a job: if it ends from now on, the job may be the cause."""


class Late(Struct, frozen=True):
    """The job came too late to start; the handler has not started."""


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
    """Headers that carry on the trace of the attempt."""
    joined: JoinedParts | None = None
    """The joined parts that the handler gets."""


class Report(Struct, frozen=True):
    """How the handler ended, and the outputs it has made."""

    ended: Literal["succeeded", "failed", "undecodable"]
    made: list[Staged] = []
    error: bytes = b""
    """The pickled exception; empty if it cannot be pickled."""
    name: str = ""
    words: str = ""
    retries: bool = True
    """Whether the function's policy retries the error."""
    traceback: str = ""
    place: str = ""
    """The place in the project's code that raised the error."""

    @classmethod
    def of(cls, error: BaseException, policy: RetryPolicy, root: Path, *, decoding: bool = False) -> Report:
        """Make the report of an exception."""
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
        """The outcome, as if the handler had ended in this process; the exception's cause holds its traceback."""
        if self.ended == "succeeded":
            return Succeeded()
        error = self._raised()
        error.__cause__ = RaisedElsewhere(self.traceback, self.place)
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
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> CellLine:
        """Make an end of one of a pair of sockets."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end))

    async def send(self, word: Any) -> None:
        """Send one object. A broken line raises nothing here: `receive` then gives None."""
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
        """Close the line; the other end sees that."""
        self._writer.close()
