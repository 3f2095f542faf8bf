"""What the contenders of a section share: the server, streams that are filled, and a sink for traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

import msgspec

from benchmarks.server import Server, running
from benchmarks.sink import Sink, listening
from benchmarks.workload import SIZE

Kept = TypeVar("Kept")


class Stored(msgspec.Struct, frozen=True):
    """A stream full of orders."""

    stream: str
    subject: str
    """What captures them all; `*` stands for the customer."""
    messages: int


class Arena:
    """Ready while the `with` block of `opened` lasts."""

    def __init__(
        self, server: Server, messages: int, rounds: int, seconds: float, closing: ExitStack, *, quick: bool
    ) -> None:
        self.server = server
        self.messages = messages
        """Of a full run; contenders that take long get a part."""
        self.rounds = rounds
        self.seconds = seconds
        """Of a run that takes a time, not a number of messages."""
        self.own: list[int] = []
        """Processes of the section that run until the end."""
        self.served: dict[str, Any] = {}
        """Servers that run until the end, by name, where a section has some."""
        self.quick = quick
        self._closing = closing
        self._stored: dict[str, Stored] = {}
        self._sink: Sink | None = None

    def stored(
        self,
        token: str,
        *,
        part: int = 1,
        messages: int | None = None,
        keys: int = 100,
        size: int = SIZE,
        headers: bool = False,
        shards: int = 0,
    ) -> Stored:
        """The stream of this token, filled when it is first asked for: a `part`-th of all messages, unless a number is given."""
        if token not in self._stored:
            total = messages or max(1, self.messages // part)
            found = Stored(token.upper(), f"{token}.*", total)
            options: dict[str, Any] = {}
            if shards:
                dest = f"shard.1.{{{{partition({shards},1)}}}}.{token}.{{{{wildcard(1)}}}}"
                options = {"subject_transform": {"src": f"{token}.*", "dest": dest}, "allow_direct": True}
            self.server.stream(found.stream, found.subject, **options)
            self.server.fill(found.stream, token, total, keys=keys, size=size, headers=headers)
            self._stored[token] = found
        return self._stored[token]

    def keep(self, running: AbstractContextManager[Kept]) -> Kept:
        """Something that runs until the end."""
        return self._closing.enter_context(running)

    def places(self, axis: tuple[int, ...]) -> tuple[int, ...]:
        """Where on an axis is measured: the first two places, where it is to be quick."""
        return axis[:2] if self.quick else axis

    @property
    def sink(self) -> Sink:
        """Where traces go, started when it is first asked for."""
        if self._sink is None:
            self._sink = self._closing.enter_context(listening())
        return self._sink


@contextmanager
def opened(messages: int, rounds: int, seconds: float, *, quick: bool) -> Iterator[Arena]:
    """A server of its own, thrown away with its store afterwards."""
    with ExitStack() as closing:
        server = closing.enter_context(running())
        yield Arena(server, messages, rounds, seconds, closing, quick=quick)
