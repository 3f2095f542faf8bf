"""Handlers that fail at random, the runner and nats-server killed at random: every message is handled or dead-lettered."""

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

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

CHARGE = """
    import asyncio
    import random

    from journal import note
    from runner import Context, RetryPolicy, consume

    @consume("orders.*", output="paid.all", retry=RetryPolicy(attempts=3, delay=0.1))
    async def charge(order: dict, ctx: Context) -> dict:
        note("start", id=order["id"], attempt=ctx.attempt)
        await asyncio.sleep(random.random() * 0.02)
        if random.random() < 0.2:
            raise ValueError("bad luck")
        note("done", id=order["id"], attempt=ctx.attempt)
        return {"id": order["id"]}
"""


class World:
    """What is killed: a runner that is started again at once, and a server on its old port and store."""

    def __init__(self, project: Project, server: NatsServer) -> None:
        self.project = project
        self.server = server
        self.runner: RunnerProcess = project.start("run")
        self.codes: list[int | None] = []
        """Exit codes of runners that ended without being killed."""

    def kill_runner(self) -> None:
        if not self.runner.running:
            self.codes.append(self.runner.code)
        self.runner.kill()
        self.runner = self.project.start("run")

    async def kill_server(self, down: float) -> None:
        self.server.kill()
        await asyncio.sleep(down)
        await asyncio.to_thread(self.server.start)


async def publish(js: RawJetStream, count: int, seconds: float) -> None:
    """Store messages 0 to count − 1, each once, evenly over the time, whatever happens to the server."""

    async def one(number: int) -> None:
        async def stored() -> int:
            headers = {"Nats-Msg-Id": f"order-{number}"}
            return await js.publish(f"orders.{number % 7}", {"id": number}, headers, within=1)

        await eventually(stored, within=60)

    began, chunk = time.monotonic(), 50
    for start in range(0, count, chunk):
        await asyncio.gather(*[one(number) for number in range(start, min(start + chunk, count))])
        await asyncio.sleep(max(0.0, began + seconds * start / count - time.monotonic()))


async def test_every_message_is_handled_or_dead_lettered_and_none_is_blamed(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    count, runner_kills, server_kills, seconds = (10_000, 10, 3, 60.0) if long else (1_500, 3, 1, 9.0)
    luck = random.Random(seed)
    await js.create("ORDERS", ["orders.*"])
    await js.create("PAID", ["paid.*"], duplicate_window=15 * 60 * 10**9)
    began = time.monotonic()
    world = World(make_project(functions={"orders": CHARGE}, nats=nats_server.url), nats_server)
    project = world.project
    await eventually(lambda: js.consumer("ORDERS", "shop-charge"), within=60)
    faults = luck.sample(["runner"] * runner_kills + ["server"] * server_kills, runner_kills + server_kills)
    moments = sorted(luck.uniform(0.02, 1.0) * seconds for _ in faults)
    publishing = asyncio.create_task(publish(js, count, seconds))
    start = time.monotonic()
    for moment, fault in zip(moments, faults, strict=True):
        await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
        if fault == "runner":
            world.kill_runner()
        else:
            await world.kill_server(luck.random())
    await publishing

    async def settled() -> bool:
        info = await js.consumer("ORDERS", "shop-charge")
        return bool(
            info["num_pending"] == 0
            and info["num_ack_pending"] == 0
            and info["ack_floor"]["stream_seq"] == (await js.stream("ORDERS"))["state"]["last_seq"]
        )

    try:
        await eventually(settled, within=120)
    finally:
        done = Counter(note["id"] for note in project.journal("done"))
        starts = len(project.journal("start"))
        dead = [
            (letter.json()["id"], letter.headers["Jetrunner-Dead-Reason"])
            for letter in await js.messages("DEADLETTERS")
        ]
        paid = Counter(output.json()["id"] for output in await js.messages("PAID"))
        # Killed between its last line and the confirmation of its output, a run has not succeeded.
        missing = set(range(count)) - set(paid) - {number for number, _ in dead}
        tell(
            f"chaos: seed {seed}: {count} messages, {runner_kills} runner kills, {server_kills} server kills, "
            f"{len(paid)} handled, {len(dead)} dead letters {dict(Counter(reason for _, reason in dead))}, "
            f"{len(missing)} missing; {starts} starts, {sum(runs > 1 for runs in done.values())} succeeded more than "
            f"once, {sum(copies > 1 for copies in paid.values())} outputs twice; {time.monotonic() - began:.0f} s"
        )
    assert missing == set()
    assert {reason for _, reason in dead} <= {"exhausted"}, "none is blamed for a kill"
    assert len({number for number, _ in dead}) == len(dead), "each dead letter stands once"
    assert set(paid) <= set(done)
    assert set(paid.values()) == {1}, "each output stands once"
    assert world.codes == [], "no runner ended by itself"
    assert world.runner.running
