"""A schedule of each second, instances and nats-server killed at random: the output of each firing stands once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.since("2.14", "schedules"),
]

TICKS = "$JETRUNNER.tick.shop.beat"
BEAT = """
    import asyncio

    from journal import note
    from runner import Context, RetryPolicy, cron

    @cron("@every 1s", output="beats.all", overlap="allow", retry=RetryPolicy.fixed(0.2, attempts=50))
    async def beat(ctx: Context) -> str:
        note("beat", sequence=ctx.sequence, attempt=ctx.attempt)
        await asyncio.sleep(0.3)
        return ctx.headers["Nats-Schedule-Next"]
"""


def firing(tick: Stored) -> str:
    """Which firing a message of the server's is of: of a killed server's there are two."""
    return tick.headers["Nats-Schedule-Next"]


async def test_the_output_of_each_firing_stands_once(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    seconds, server_kills = (120.0, 5) if long else (15.0, 1)
    instance_kills = int(seconds / 2)
    luck = random.Random(seed)
    await js.create("BEATS", ["beats.*"], duplicate_window=15 * 60 * 10**9)
    project = make_project(functions={"beat": BEAT}, nats=nats_server.url)
    instances: list[RunnerProcess] = [project.start("run") for _ in range(3)]
    await eventually(lambda: js.messages("BEATS"), within=60)
    faults = [(luck.uniform(0.02, 1.0) * seconds, "server") for _ in range(server_kills)]
    faults += [((number + luck.random()) * 2, "instance") for number in range(instance_kills)]
    codes: list[int | None] = []
    start = time.monotonic()
    for moment, fault in sorted(faults):
        await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
        if fault == "server":
            nats_server.kill()
            await asyncio.sleep(luck.random())
            await asyncio.to_thread(nats_server.start)
            continue
        at = luck.randrange(len(instances))
        if not instances[at].running:
            codes.append(instances[at].code)
        instances[at].kill()
        instances[at] = project.start("run")
    await eventually(lambda: js.api("STREAM.PURGE.JETRUNNER", {"filter": "$JETRUNNER.cron.shop.beat"}))
    try:
        await eventually(lambda: js.settled("JETRUNNER", "shop-beat"), within=60)
    finally:
        ticks = await js.messages("JETRUNNER", TICKS)
        outputs = Counter(each.body.decode().strip('"') for each in await js.messages("BEATS"))
        firings = {firing(each) for each in ticks}
        missing = firings - set(outputs)
        twice = [each for each, count in outputs.items() if count > 1]
        started = {note["sequence"] for note in project.journal("beat")}
        left_out = [each.sequence for each in ticks if each.sequence not in started]
        tell(
            f"chaos: seed {seed}: {seconds:.0f} s, {instance_kills} instance kills, {server_kills} server kills: "
            f"{len(firings)} firings in {len(ticks)} messages, {len(outputs)} outputs, {len(missing)} firings without one, "
            f"{len(twice)} twice; {len(project.journal('beat'))} starts, {len(left_out)} messages were not started"
        )
    assert twice == [], "each output stands once"
    assert missing == set(), "each firing has its output"
    assert len(firings) >= seconds / 3
    assert await js.messages("DEADLETTERS") == []
    assert codes == [], "no instance ended by itself"
