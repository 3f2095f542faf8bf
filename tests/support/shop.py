"""A shop: the project that guarantees are shown on, its streams, and what became of every message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from textwrap import dedent
from typing import Any

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.process import RunnerProcess
from tests.support.project import Project

MINUTES = 60 * 10**9
IMPORTS = """
import asyncio, sys, os, signal, time, threading
from msgspec import Struct
from runner import Context, Reject, Retry, RetryPolicy, consume, lifespan
from journal import note

class Order(Struct):
    id: int
    note: str = ""

"""


class Shop:
    """Streams `ORDERS` (`orders.>`), `PAID` (`paid.>`) and `AUDIT` (`audit.>`), and one module of functions.

    The module finds the usual imports and an `Order` above it; what its handlers `note` is in `journal`.
    """

    def __init__(self, js: RawJetStream, url: str, make_project: Callable[..., Project]) -> None:
        self.js = js
        self.url = url
        self.make_project = make_project
        self.project = make_project(nats=url)

    async def open(self, source: str, **limits: Any) -> None:
        """Create the streams (`limits` are fields of PAID) and write the functions."""
        for name, subject, fields in (
            ("ORDERS", "orders.>", {}),
            ("PAID", "paid.>", limits),
            ("AUDIT", "audit.>", {}),
        ):
            await self.js.create(
                name,
                [subject],
                **{
                    "allow_atomic": True,
                    "allow_direct": True,
                    "duplicate_window": 15 * MINUTES,
                    **fields,
                },
            )
        self.write(source)

    def write(self, source: str) -> None:
        """Write the functions anew."""
        self.project.function("shop", IMPORTS + dedent(source))

    def run(self, *arguments: str, **environment: str) -> RunnerProcess:
        """Start `runner run`."""
        return self.project.start("run", *arguments, **environment)

    async def running(self, function: str, *arguments: str, **environment: str) -> RunnerProcess:
        """Start `runner run` and return once the function pulls."""
        process = self.run(*arguments, **environment)
        await eventually(lambda: self.pulling(function) if process.running else _dead(process))
        return process

    async def pulling(self, function: str, requests: int = 1) -> bool:
        """Whether a function's durable has this many pull requests waiting."""
        info = await self.js.consumer("ORDERS", f"{self.project.name}-{function}")
        return int(info["num_waiting"]) >= requests

    async def order(self, *numbers: int, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        """Publish orders to `orders.<id>`."""
        for number in numbers:
            await self.js.publish(f"orders.{number}", {"id": number, **fields}, headers)

    async def settled(self, function: str, *, within: float = 60.0, stream: str = "ORDERS") -> None:
        """Return once nothing of the stream waits for the function and nothing is in its work."""
        durable = f"{self.project.name}-{function}"
        await eventually(lambda: self.js.settled(stream, durable), within=within)

    async def in_work(self, function: str, *, stream: str = "ORDERS") -> int:
        """How many messages the server has given out to a function and not heard of again."""
        return int((await self.js.consumer(stream, f"{self.project.name}-{function}"))["num_ack_pending"])

    async def give_back(
        self, function: str, *, stream: str = "ORDERS", sequences: Iterable[int] | None = None
    ) -> None:
        """Have the server deliver again what a killed process left, without waiting for its ack_wait."""
        durable = f"{self.project.name}-{function}"
        info = await self.js.consumer(stream, durable)
        delivered = info["delivered"]
        for sequence in sequences or range(info["ack_floor"]["stream_seq"] + 1, delivered["stream_seq"] + 1):
            subject = f"$JS.ACK.{stream}.{durable}.1.{sequence}.{delivered['consumer_seq']}.0.0"
            await self.js.client.publish(subject, b"-NAK")
        await self.js.client.flush()

    async def noted(self, what: str, count: int = 1, *, within: float = 60.0) -> list[dict[str, Any]]:
        """Return the notes of that name once there are at least `count`."""
        await eventually(lambda: len(self.notes(what)) >= count, within=within)
        return self.notes(what)

    def notes(self, what: str) -> list[dict[str, Any]]:
        """What handlers noted so far under that name."""
        return self.project.journal(what)

    async def dead(self) -> list[Stored]:
        """Every dead letter."""
        return await self.js.messages("DEADLETTERS")

    async def dead_letter(self, count: int = 1, *, within: float = 60.0) -> Stored:
        """Return the last dead letter once there are `count` of them."""
        await eventually(lambda: self._counted(count), within=within)
        (*_, last) = await self.dead()
        return last

    async def _counted(self, count: int) -> bool:
        return await self.js.count("DEADLETTERS") >= count


def reason(letter: Stored) -> str:
    """Why a dead letter is one."""
    return letter.headers["Jetrunner-Dead-Reason"]


def _dead(process: RunnerProcess) -> bool:
    raise AssertionError(f"the runner ended with {process.code}:\n{process.output}")
