"""Instances killed, frozen, ended and started at random under load: the idempotent is answered, nothing else runs twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from runner import connect
from runner.errors import ServerError
from tests.guarantees.test_request_failover import SOURCE, Load, started
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(900)]

INSTANCES = 4
TIMEOUT = 5.0
"""Seconds after which a request fails where nothing else is said (`docs/howto/requests.md`)."""


class Fleet:
    """Instances of which at least one is healthy at any time; faults overlap on the others."""

    def __init__(self, project: Project, luck: random.Random) -> None:
        self._project = project
        self._luck = luck
        self.healthy: list[RunnerProcess] = []
        self.faults: Counter[str] = Counter()

    async def start(self) -> None:
        self.healthy.append(await started(self._project))

    async def fault(self) -> None:
        """One that is picked fails in a way that is picked, and is there again at the end."""
        chosen = self.healthy.pop(self._luck.randrange(len(self.healthy)))
        kind = self._luck.choice(["kill", "freeze", "freeze and kill", "end", "freeze in its end"])
        self.faults[kind] += 1
        if kind == "kill":
            chosen.kill()
        if kind in {"end", "freeze in its end"}:
            chosen.terminate()
        if kind.startswith("freeze"):
            chosen.freeze()
            await asyncio.sleep(self._luck.uniform(0.1, 2.0))
            if kind == "freeze and kill":
                chosen.kill()
            else:
                chosen.thaw()
        if kind == "freeze":
            self.healthy.append(chosen)
            return
        if kind in {"end", "freeze in its end"}:
            assert await chosen.ended() == 0
        await self.start()


async def test_requests_are_answered_or_told_whatever_happens_to_instances(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    luck = random.Random(seed)
    project = make_project(functions={"shop": SOURCE}, nats=nats_server.url)
    fleet = Fleet(project, luck)
    for _ in range(INSTANCES):
        await fleet.start()
    faults = 150 if long else 8
    async with connect(nats_server.url) as one, connect(nats_server.url) as other:
        quotes, charges, more = (
            Load(one, "quote", a_second=200),
            Load(one, "charge", timeout=TIMEOUT, a_second=100),
            Load(other, "quote", a_second=50),
        )
        async with quotes.running(), charges.running(), more.running(), asyncio.TaskGroup() as tasks:
            under_way: set[asyncio.Task[None]] = set()
            for _ in range(faults):
                while len(fleet.healthy) < 2 or len(under_way) == INSTANCES - 1:
                    _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                under_way.add(tasks.create_task(fleet.fault()))
                await quotes.more(luck.randrange(20, 200))
    asked = quotes.asked + more.asked
    slowest = {
        name: max(seconds for load in loads for _, seconds in load.seconds)
        for name, loads in {"idempotent": (quotes, more), "other": (charges,)}.items()
    }
    tell(
        f"requests: seed {seed}: {asked} idempotent requests and {charges.asked} others, {fleet.faults}: "
        f"{len(charges.failed)} others are told that they may have run; the slowest took {slowest} s"
    )
    assert [repr(error) for error in quotes.failed + more.failed] == []
    assert {type(error).__name__ for error in charges.failed if not isinstance(error, ServerError)} == set()
    ran = Counter(note["number"] for note in project.journal("charge"))
    assert [number for number, times in ran.items() if times > 1] == []
    assert charges.asked - len(charges.failed) <= len(ran)
    stood = max(load.stood for load in (quotes, charges, more))
    assert slowest["idempotent"] < 2 + stood
    assert slowest["other"] < TIMEOUT + 1 + stood
