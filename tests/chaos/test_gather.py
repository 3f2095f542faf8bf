"""Events that are split, worked on in parts and joined, while instances and the server are killed: each is joined once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(900)]

FUNCTIONS = """
    import random

    from journal import note
    from runner import Context, RetryPolicy, consume, gather

    RETRY = RetryPolicy.fixed(0.1, attempts=50)


    def sometimes() -> None:
        if random.random() < 0.1:
            raise ValueError("bad luck")


    @consume("orders.{id}", output="paid.{id}", retry=RETRY)
    async def pay(order: dict) -> dict:
        sometimes()
        return order


    @consume("paid.{id}", output="lines.{id}", retry=RETRY)
    async def split(order: dict):
        sometimes()
        for number in range(order["parts"]):
            yield {"id": order["id"], "n": number}


    @consume("lines.{id}", output="priced.{id}", retry=RETRY)
    async def price(line: dict) -> dict:
        sometimes()
        return {**line, "cents": line["n"] + 1}


    @gather("priced.{id}", output="totals.{id}", retry=RETRY)
    async def total(lines: list[dict], ctx: Context) -> dict:
        note("total", id=lines[0]["id"], attempt=ctx.attempt)
        sometimes()
        return {"id": lines[0]["id"], "parts": [line["n"] for line in lines], "missing": list(ctx.missing)}
"""


class World:
    """Instances that are started again at once, and servers on their old port and store."""

    def __init__(self, project: Project, instances: int, luck: random.Random) -> None:
        self.project = project
        self.luck = luck
        self.instances: list[RunnerProcess] = [project.start("run") for _ in range(instances)]
        self.ended: list[int | None] = []
        """Exit codes of those that ended without being killed."""

    def kill_instance(self) -> None:
        at = self.luck.randrange(len(self.instances))
        if not self.instances[at].running:
            self.ended.append(self.instances[at].code)
        self.instances[at].kill()
        self.instances[at] = self.project.start("run")

    async def kill_server(self, server: NatsServer) -> None:
        server.kill()
        await asyncio.sleep(self.luck.random())
        await asyncio.to_thread(server.start)


class Kills(NamedTuple):
    """What is killed, within how many seconds."""

    instances: int
    servers: int
    seconds: float


async def store(js: RawJetStream, sizes: dict[int, int], seconds: float) -> None:
    """Store an order for each, evenly over the time, whatever happens to the server."""

    async def one(number: int, parts: int) -> None:
        async def stored() -> int:
            headers = {"Nats-Msg-Id": f"order-{number}"}
            return await js.publish(f"orders.{number}", {"id": number, "parts": parts}, headers, within=1)

        await eventually(stored, within=60)

    began, chunk = time.monotonic(), 50
    orders = [*sizes.items()]
    for start in range(0, len(orders), chunk):
        await asyncio.gather(*[one(*order) for order in orders[start : start + chunk]])
        await asyncio.sleep(max(0.0, began + seconds * start / len(orders) - time.monotonic()))


async def judged(
    world: World,
    js: RawJetStream,
    sizes: dict[int, int],
    kills: Kills,
    leader: Callable[[], Awaitable[NatsServer]],
    within: float,
) -> str:
    """Store the orders, kill meanwhile, and see that each is joined once; the figures in a sentence."""
    luck, began = world.luck, time.monotonic()
    await eventually(lambda: js.consumer("PRICED", "shop-total"), within=60)
    faults = luck.sample(
        ["instance"] * kills.instances + ["server"] * kills.servers, kills.instances + kills.servers
    )
    moments = sorted(luck.uniform(0.02, 1.0) * kills.seconds for _ in faults)
    storing = asyncio.create_task(store(js, sizes, kills.seconds if len(sizes) > 10 else 0.0))
    start = time.monotonic()
    for moment, fault in zip(moments, faults, strict=True):
        await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
        if fault == "instance":
            world.kill_instance()
        else:
            await world.kill_server(await leader())
    await storing

    async def joined() -> bool:
        return await js.count("TOTALS") >= len(sizes)

    await eventually(joined, within=within)
    totals = [stored.json() for stored in await js.messages("TOTALS")]
    wrong = [
        total["id"] for total in totals if total["parts"] != [*range(sizes[total["id"]])] or total["missing"]
    ]
    names = {total["id"] for total in totals}
    runs = len(world.project.journal("total"))
    assert names == {*sizes}
    assert len(totals) == len(sizes), "each output stands once"
    assert wrong == []
    assert await js.messages("DEADLETTERS") == []
    assert world.ended == [], "no instance ended by itself"

    async def cleared() -> bool:
        left = await js.messages("GATHER", "$JETRUNNER.gather.*.*.*.*.*")
        return not left and not await js.messages("JETRUNNER", "$JETRUNNER.expire.>")

    await eventually(cleared, within=60)
    return (
        f"{len(sizes)} events of {sizes[0]} parts, {kills.instances} kills of instances, {kills.servers} of servers: each joined once, "
        f"none missing; the function ran {runs} times; {time.monotonic() - began:.0f} s"
    )


async def streams(js: RawJetStream, replicas: int) -> None:
    for name in ("orders", "paid", "lines", "priced", "totals"):
        await js.create(
            name.upper(),
            [f"{name}.*"],
            allow_atomic=True,
            allow_direct=True,
            duplicate_window=15 * 60 * 10**9,
            num_replicas=replicas,
        )


@pytest.mark.parametrize("shape", ["many", "large"])
async def test_each_event_is_joined_once_and_none_is_missing(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
    shape: str,
) -> None:
    count, parts = {"many": (20_000, 5) if long else (300, 5), "large": (3, 10_000) if long else (2, 1_500)}[
        shape
    ]
    kills = Kills(30, 5, 90.0) if long else Kills(3, 1, 8.0)
    await streams(js, 1)
    project = make_project(functions={"orders": FUNCTIONS}, nats=nats_server.url)
    world = World(project, 2, random.Random(seed))

    async def leader() -> NatsServer:
        return nats_server

    said = await judged(world, js, dict.fromkeys(range(count), parts), kills, leader, 600 if long else 90)
    tell(f"gather: seed {seed}: {said}")


async def test_each_event_is_joined_once_on_three_servers_whose_leader_is_killed(
    make_project: Callable[..., Project], cluster: Cluster, long: bool, seed: int, tell: Callable[[str], None]
) -> None:
    count, kills = (6_700, Kills(30, 5, 120.0)) if long else (100, Kills(2, 1, 10.0))
    async with RawJetStream.connect(cluster.url) as js:
        await streams(js, 3)
        project = make_project(functions={"orders": FUNCTIONS}, nats=cluster.url)
        world = World(project, 2, random.Random(seed))
        said = await judged(
            world,
            js,
            dict.fromkeys(range(count), 5),
            kills,
            lambda: cluster.leader("PRICED"),
            600 if long else 120,
        )
    tell(f"gather on three servers: seed {seed}: {said}")
