"""Events that are split, worked on in parts and joined, while instances and the server are killed: each is joined once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

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
    """Instances that are started again at once, and a server on its old port and store."""

    def __init__(self, project: Project, server: NatsServer, instances: int, luck: random.Random) -> None:
        self.project = project
        self.server = server
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

    async def kill_server(self) -> None:
        self.server.kill()
        await asyncio.sleep(self.luck.random())
        await asyncio.to_thread(self.server.start)


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
    luck = random.Random(seed)
    if shape == "many":
        count, each = (20_000, 5) if long else (300, 5)
    else:
        count, each = (3, 10_000) if long else (2, 1_500)
    instance_kills, server_kills, seconds = (30, 5, 90.0) if long else (3, 1, 8.0)
    for name, subject in (
        ("ORDERS", "orders.*"),
        ("PAID", "paid.*"),
        ("LINES", "lines.*"),
        ("PRICED", "priced.*"),
        ("TOTALS", "totals.*"),
    ):
        await js.create(
            name, [subject], allow_atomic=True, allow_direct=True, duplicate_window=15 * 60 * 10**9
        )
    began = time.monotonic()
    project = make_project(functions={"orders": FUNCTIONS}, nats=nats_server.url)
    world = World(project, nats_server, 2, luck)
    await eventually(lambda: js.consumer("PRICED", "shop-total"), within=30)
    faults = luck.sample(
        ["instance"] * instance_kills + ["server"] * server_kills, instance_kills + server_kills
    )
    moments = sorted(luck.uniform(0.02, 1.0) * seconds for _ in faults)
    storing = asyncio.create_task(
        store(js, dict.fromkeys(range(count), each), seconds if shape == "many" else 0.0)
    )
    start = time.monotonic()
    for moment, fault in zip(moments, faults, strict=True):
        await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
        if fault == "instance":
            world.kill_instance()
        else:
            await world.kill_server()
    await storing

    async def joined() -> bool:
        return await js.count("TOTALS") >= count

    try:
        await eventually(joined, within=600 if long else 90)
    finally:
        totals = [stored.json() for stored in await js.messages("TOTALS")]
        runs = Counter(note["id"] for note in project.journal("total"))
        dead = await js.messages("DEADLETTERS")
        wrong = [total["id"] for total in totals if total["parts"] != [*range(each)] or total["missing"]]
        tell(
            f"gather: {shape}, seed {seed}: {count} events of {each} parts, {instance_kills} kills of instances, {server_kills} of the "
            f"server: {len({total['id'] for total in totals})} joined, {len(totals) - len({total['id'] for total in totals})} twice, "
            f"{len(wrong)} wrong, {len(dead)} dead letters; the function ran {sum(runs.values())} times; {time.monotonic() - began:.0f} s"
        )
    assert {total["id"] for total in totals} == {*range(count)}
    assert len(totals) == count, "each output stands once"
    assert wrong == []
    assert dead == []
    assert world.ended == [], "no instance ended by itself"

    async def cleared() -> bool:
        left = [stored.subject for stored in await js.messages("GATHER", "$JETRUNNER.gather.*.*.*.*.*")]
        expire = await js.messages("JETRUNNER", "$JETRUNNER.expire.>")
        return not left and not expire

    await eventually(cleared, within=60)
