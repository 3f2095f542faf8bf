"""Requests reach an instance that lives: whatever becomes of the others, an idempotent one is answered, and no other runs twice."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from runner import connect
from runner.client import App
from runner.errors import Unconfirmed
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FAULTS = int(os.environ.get("REQUEST_FAULTS", "3"))
A_SECOND = 200
SLOW = 3.0
"""Seconds: a tenth of one where nothing else runs, and what a busy machine adds; what is lost is answered never."""
SOURCE = """
    import asyncio
    from journal import note
    from runner import reply

    @reply("quote.{number}", idempotent=True)
    async def quote(number: int) -> int:
        await asyncio.sleep(0.02)
        return number

    @reply("charge.{number}")
    async def charge(number: int) -> int:
        note("charge", number=number)
        await asyncio.sleep(0.02)
        return number
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"shop": SOURCE}, nats=nats_server.url)


class Load:
    """Asks one after the other, so many a second; how long each took, and what has failed."""

    def __init__(self, app: App, subject: str, *, timeout: float = 20.0, a_second: int = A_SECOND) -> None:
        self._app = app
        self._subject = subject
        self._timeout = timeout
        self._a_second = a_second
        self.seconds: list[tuple[float, float]] = []
        """When each was asked, and how long it took."""
        self.waiting: dict[int, float] = {}
        """When each that has no answer yet was asked."""
        self.failed: list[Exception] = []
        self.asked = 0
        self.stood = 0.0
        """The longest time for which this process stood still."""

    async def _one(self, number: int) -> None:
        self.waiting[number] = began = time.monotonic()
        try:
            assert await self._ask(number) == number
        except Exception as error:  # noqa: BLE001
            self.failed.append(error)
        del self.waiting[number]
        self.seconds.append((began, time.monotonic() - began))

    async def _ask(self, number: int) -> int:
        return await self._app.request(f"{self._subject}.{number}", None, returns=int, timeout=self._timeout)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        going = True

        async def ask() -> None:
            async with asyncio.TaskGroup() as tasks:
                began = last = time.monotonic()
                while going:
                    now = time.monotonic()
                    self.stood, last = max(self.stood, now - last), now
                    while self.asked < (now - began) * self._a_second:
                        tasks.create_task(self._one(self.asked))
                        self.asked += 1
                    await asyncio.sleep(0.002)

        loading = asyncio.create_task(ask())
        try:
            yield
        finally:
            going = False
            await loading

    async def more(self, count: int) -> None:
        """Wait until so many more have been asked."""
        goal = self.asked + count
        await eventually(lambda: self.asked > goal)

    async def answered(self, until: float) -> None:
        """Wait until all have ended that were asked up to then."""
        await eventually(lambda: not any(began <= until for began in self.waiting.values()))

    def slowest(self, since: float, until: float) -> float:
        """The longest of those asked between two times."""
        return max((seconds for began, seconds in self.seconds if since - 0.1 <= began <= until), default=0.0)


async def started(project: Project) -> RunnerProcess:
    process = project.start("run")
    await process.seen("ready: ")
    return process


async def test_an_instance_that_is_killed_costs_no_idempotent_request(
    project: Project, nats_server: NatsServer
) -> None:
    processes = [await started(project) for _ in range(3)]
    slowest = []
    async with connect(nats_server.url) as app:
        load = Load(app, "quote")
        async with load.running():
            for _ in range(FAULTS):
                await load.more(120)
                killed = time.monotonic()
                processes.pop(0).kill()
                processes.append(await started(project))
                slowest.append(load.slowest(killed, killed + 0.5) - 0.02)
    assert load.failed == []
    print("added seconds", [round(each, 3) for each in slowest])
    assert statistics.median(slowest) < SLOW


async def test_an_instance_that_stands_still_costs_no_idempotent_request(
    project: Project, nats_server: NatsServer
) -> None:
    processes = [await started(project) for _ in range(3)]
    slowest = []
    async with connect(nats_server.url) as app:
        load = Load(app, "quote")
        async with load.running():
            for _ in range(FAULTS):
                await load.more(120)
                frozen = processes.pop(0)
                stopped = time.monotonic()
                frozen.freeze()
                await load.more(200)
                await load.answered(stopped + 0.5)  # while it still stands
                slowest.append(load.slowest(stopped, stopped + 0.5) - 0.02)
                frozen.thaw()
                processes.append(frozen)
                await load.more(200)
    assert load.failed == []
    print("added seconds", [round(each, 3) for each in slowest])
    assert statistics.median(slowest) < SLOW


async def test_what_is_not_idempotent_never_runs_twice(project: Project, nats_server: NatsServer) -> None:
    luck = Random(1)
    processes = [await started(project) for _ in range(3)]
    async with connect(nats_server.url) as app:
        load = Load(app, "charge", timeout=5.0)
        async with load.running():
            for _ in range(FAULTS):
                await load.more(80)
                gone = processes.pop(luck.randrange(3))
                gone.kill()
                processes.append(await started(project))
    ran = Counter(note["number"] for note in project.journal("charge"))
    assert [number for number, times in ran.items() if times > 1] == []
    assert all(isinstance(error, Unconfirmed) for error in load.failed)
    assert load.asked - len(load.failed) <= len(ran)


async def test_drained_instances_cost_no_request_at_all(project: Project, nats_server: NatsServer) -> None:
    processes = [await started(project) for _ in range(2)]
    async with connect(nats_server.url) as app:
        load = Load(app, "charge")
        async with load.running():
            for _ in range(FAULTS):
                await load.more(80)
                processes.append(await started(project))
                old = processes.pop(0)
                old.terminate()
                assert await old.ended() == 0
    assert load.failed == []
    ran = Counter(note["number"] for note in project.journal("charge"))
    assert dict(ran) == dict.fromkeys(range(load.asked), 1)
