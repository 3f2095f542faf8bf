"""Promise 9: one owner at a time: nothing is started by an instance that another has come after, whatever it knows."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from runner.core.sharding import partition
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Instance, Ledger, streams
from tests.support.order import source
from tests.support.ownerships import CLAIMS, Overheard
from tests.support.pipe import Way
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHARDS = 6
BUCKET = "KV_jetrunner"
KEYS = [f"a{number}" for number in range(400)]


class Scene:
    """Instances with more work than they can do at once; the first one's connection goes through a proxy."""

    def __init__(self, ledger: Ledger, proxy: Proxy, overheard: Overheard) -> None:
        self.ledger = ledger
        self.proxy = proxy
        self.overheard = overheard
        self.owners: dict[int, str] = {}
        """Process ids by shard, as the claims stood when they were last read: what is overheard may have been refused."""
        self._number = 0

    @property
    def behind(self) -> Instance:
        """The instance behind the proxy."""
        return self.ledger.instances[0]

    async def backlog(self, count: int, keys: Sequence[str] = KEYS) -> None:
        """Store so many messages as fast as may be."""
        numbers = range(self._number, self._number + count)
        self._number += count
        await asyncio.gather(*(self.ledger.store(keys[number % len(keys)], number) for number in numbers))

    def keys(self, instance: Instance) -> list[str]:
        """The keys of the shards that an instance had when the owners were last read."""
        pid = str(instance.process.pid)
        shards = {shard for shard, owner in self.owners.items() if owner == pid}
        return [key for key in KEYS if partition([key.encode()], SHARDS) in shards]

    @asynccontextmanager
    async def trickle(self, keys: Sequence[str]) -> AsyncIterator[None]:
        """Store one message of these keys each 50 ms."""

        over = asyncio.Event()

        async def drip() -> None:
            while not over.is_set():
                await self.backlog(1, keys)
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drip())
            try:
                yield
            finally:
                over.set()

    def starts(self, instance: Instance) -> int:
        """How many messages an instance has started so far."""
        pid = str(instance.process.pid)
        lines = self.ledger.journal.read_text().splitlines()
        return sum(line.split()[3] == pid for line in lines if line.startswith("S "))

    async def at_work(self) -> None:
        """Return once every instance has started something since just now."""
        before = [(instance, self.starts(instance)) for instance in self.ledger.instances]
        await eventually(lambda: all(self.starts(instance) > count for instance, count in before))

    async def read(self) -> None:
        """Read whose the shards are."""
        for claim in await self.ledger.js.messages("KV_jetrunner", CLAIMS + ">"):
            owner = str(claim.json().get("owner") or "--").rsplit("-", 2)[1]
            self.owners[int(claim.subject.rsplit(".", 1)[1])] = owner

    async def balanced(self) -> bool:
        """Whether each instance has its share."""
        await self.read()
        owners = list(self.owners.values())
        shares = [owners.count(str(each.process.pid)) for each in self.ledger.instances]
        return sum(shares) == SHARDS and max(shares) - min(shares) <= 1

    async def taken_over(self) -> bool:
        """Whether nothing is the instance's behind the proxy any more."""
        await self.read()
        return str(self.behind.process.pid) not in self.owners.values()


MakeScene: TypeAlias = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def scene(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> AsyncIterator[MakeScene]:
    """Make one with so many instances, and handlers that take so long; at the end everything is done, in order, by one
    owner at a time."""
    made: list[Scene] = []
    async with Proxy.to(nats_server.port) as proxy, Overheard.at([nats_server.url]) as overheard:

        async def make(instances: int, pause: float = 0.05) -> Scene:
            project = make_project(
                functions={"ledger": source(failing=0.0, pause=pause, concurrency=8, output=False)},
                streams=streams(SHARDS),
                nats=nats_server.url,
            )
            await project.applied()
            ledger = Ledger(
                project, nats_server.url, js, random.Random(1), server=nats_server, proxies=[proxy]
            )
            for number in range(instances):
                ledger.add(behind_proxy=number == 0)
            made.append(Scene(ledger, proxy, overheard))
            await eventually(made[-1].balanced)
            await ledger.owning(SHARDS)
            return made[-1]

        yield make
        for each in made:
            await proxy.mend()
            await each.ledger.settled(within=120)
            await each.ledger.close()
            found = await each.ledger.judge(overheard, outputs=False)
            print(found, each.ledger.summary())
            assert not each.ledger.problems, f"{each.ledger.summary()}\n{each.ledger.explain()}"


async def test_an_instance_whose_connection_is_half_open_has_stopped_before_another_starts(
    scene: MakeScene,
) -> None:
    """The server has closed the connection, the others find that out at once, and the instance is told nothing.

    It has enough at hand to start something every few milliseconds; the others have just enough to do to be awake,
    and start what they take at once.
    """
    it = await scene(3, pause=0.2)
    others = it.ledger.instances[1:]
    async with it.trickle([key for instance in others for key in it.keys(instance)]):
        await it.backlog(400, it.keys(it.behind))
        await eventually(lambda: it.starts(it.behind) > 10)
        assert it.proxy.half_open() == 1
        await eventually(it.taken_over)
        before = sum(map(it.starts, others))
        await eventually(lambda: sum(map(it.starts, others)) > before + 100)


@pytest.mark.parametrize("way", ["up", pytest.param("down", marks=pytest.mark.thorough)])
async def test_an_instance_that_is_cut_off_in_one_direction_has_stopped_before_another_starts(
    scene: MakeScene, way: Way
) -> None:
    """It has enough at hand to start something all the time until another has come."""
    it = await scene(3, pause=3.0)
    others = it.ledger.instances[1:]
    async with it.trickle([key for instance in others for key in it.keys(instance)]):
        await it.backlog(60, it.keys(it.behind))
        await eventually(lambda: it.starts(it.behind) > 7)
        it.proxy.freeze(way)
        await eventually(it.taken_over)
        before = sum(map(it.starts, others))
        await eventually(lambda: sum(map(it.starts, others)) > before + 10)
        it.proxy.thaw()


@pytest.mark.parametrize("what", [pytest.param("PURGE", marks=pytest.mark.thorough), "DELETE"])
async def test_a_lost_bucket_makes_no_second_owner_of_anything(
    scene: MakeScene, js: RawJetStream, what: str
) -> None:
    """Claims and leases are gone under two instances; a third, which knows of neither, joins."""
    it = await scene(2)
    await it.backlog(4_000)
    await it.at_work()
    it.ledger.mark("P bucket")
    await js.api(f"STREAM.{what}.{BUCKET}")
    it.ledger.add()
    async with it.trickle(KEYS):  # until the third has joined
        await it.at_work()
    await it.backlog(2_000)


@asynccontextmanager
async def said_all_the_time(js: RawJetStream, news: Sequence[object]) -> AsyncIterator[None]:
    """Somebody says these things to all instances, about a hundred times a second."""

    async def say() -> None:
        while True:
            for each in news:
                await js.client.publish("jetrunner.shop.members", json.dumps(each).encode())
            await asyncio.sleep(0.01)

    saying = asyncio.create_task(say())
    try:
        yield
    finally:
        saying.cancel()


async def test_forged_news_move_no_shard(scene: MakeScene, js: RawJetStream) -> None:
    it = await scene(3)
    # One by one: a lease may be renewed meanwhile, and be read twice.
    stored = await js.messages(BUCKET, "$KV.jetrunner.member.>")
    members = list({member.subject: member.json() for member in stored}.values())
    assert len(members) == 3
    before = {shard: len(claims) for shard, claims in it.overheard.claims.items()}
    forged = [
        *({"dead": member["instance"]} for member in members),
        *({"left": member["instance"]} for member in members),
        *({"joined": {**members[0], "instance": f"ghost-{number}-0000"}} for number in range(3)),
    ]
    async with said_all_the_time(js, forged):
        for _ in range(3):
            await it.backlog(300)
            await it.ledger.settled(within=60)
    if any("its lease has run out" in instance.process.output for instance in it.ledger.instances):
        return  # one stood still for three seconds
    assert {shard: len(claims) for shard, claims in it.overheard.claims.items()} == before, (
        "no claim was written"
    )
