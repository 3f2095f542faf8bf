"""Claims that stand in the bucket and that their owner does not hold."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable

import pytest
from nats.aio.msg import Msg

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Ledger, streams
from tests.support.order import source
from tests.support.ownerships import CLAIMS
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_claim_that_its_owner_does_not_hold_keeps_no_resize_waiting(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """As it is left by one whose claim was written while the server went away, when its generation has closed since."""
    project = make_project(
        functions={"ledger": source(failing=0.0, pause=4.0)}, streams=streams(4), nats=nats_server.url
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, random.Random(3))
    released: asyncio.Queue[str] = asyncio.Queue()
    owners: dict[str, str] = {}

    async def heard(message: Msg) -> None:
        shard, claim = message.subject.removeprefix(CLAIMS), json.loads(message.data)
        if claim["owner"]:
            owners[shard] = claim["owner"]
        elif shard.startswith("1."):
            released.put_nowait(shard)

    await js.client.subscribe(CLAIMS + ">", cb=heard)
    await js.client.flush()
    ledger.add()
    await ledger.owning(4)
    for number in range(12):  # handlers that run for a while keep the generation from being left at once
        await ledger.post(number, 12)
    resize = project.start("shard", "resize", "LEDGER", "8")
    shard = await asyncio.wait_for(released.get(), 60)
    entry = await js.api("STREAM.MSG.GET.KV_jetrunner", {"last_by_subj": CLAIMS + shard})
    left = {"owner": owners[shard], "epoch": 7, "since": time.time(), "before": []}
    expected = {"Nats-Expected-Last-Subject-Sequence": str(entry["message"]["seq"])}
    await js.publish(CLAIMS + shard, left, expected)
    try:
        assert await resize.ended(within=60) == 0
    except AssertionError as error:
        raise AssertionError(f"{error}\n{resize.output}\n{await ledger.shards()}") from None
    await ledger.post(100, 12)
    await ledger.settled(within=60)
    await ledger.close()
    await ledger.judge()
    assert not ledger.problems, ledger.explain()


LATE_LOOK = """
import os
from pathlib import Path

import anyio

from runner.cluster.generations import Generations

look, late = Generations._look, Path(__file__).parents[1] / f"late-{os.getpid()}"


async def look_late(self, function, *, step):
    while step and late.exists():
        await anyio.sleep(0.01)
    return await look(self, function, step=step)


Generations._look = look_late
Generations._steps = lambda self, function: True
"""
"""While the file `late-<pid>` stands, a process does not hear that another generation has opened."""


async def test_an_instance_that_slept_while_its_generation_was_left_claims_nothing_of_it(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """The claims of a generation that was left are gone from the bucket: they were not lost, and are not written again."""
    project = make_project(
        functions={"ledger": source(failing=0.0, pause=0.05, concurrency=8), "late": LATE_LOOK},
        streams=streams(4),
        nats=nats_server.url,
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, random.Random(3))
    ledger.add()
    ledger.add()
    await ledger.owning(4)
    await asyncio.gather(*(ledger.post(number, 60) for number in range(600)))
    await eventually(lambda: ledger.progress() > 30)
    # Of two that start at once, one may have all shards for a moment.
    sleeper = max(
        ledger.instances, key=lambda each: ledger.journal.read_text().count(f" {each.process.pid} ")
    )
    late = project.root / f"late-{sleeper.process.pid}"
    late.touch()
    sleeper.process.freeze()
    await asyncio.gather(*(ledger.post(number, 60) for number in range(600, 900)))
    assert await project.start("shard", "resize", "LEDGER", "3").ended(within=60) == 0

    async def swept() -> bool:
        return not await js.messages("KV_jetrunner", CLAIMS + "1.>")

    def has_acted() -> bool:
        since = ledger.journal.read_text().partition(f"T {sleeper.process.pid}\n")[2]
        # What it was in the middle of ends. If it was frozen between two messages, its lease is refused: others have its shards.
        ends = any(line.split()[3] == str(sleeper.process.pid) for line in since.splitlines())
        return ends or any("took this one for dead" in line for line in sleeper.process.stderr)

    await eventually(swept)
    ledger.thaw(sleeper)
    await eventually(has_acted)
    late.unlink()
    await eventually(lambda: any("of 3 shards" in line for line in sleeper.process.stderr))
    await asyncio.gather(*(ledger.post(number, 60) for number in range(900, 960)))
    await ledger.settled(within=60)
    await ledger.close()
    await ledger.judge()
    assert not ledger.problems, ledger.explain()


async def test_an_instance_that_was_buried_writes_no_claim_again_that_the_bucket_has_lost_since(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Another has taken its shards, and does not know yet that the bucket has lost them: both would start their messages."""
    project = make_project(
        functions={"ledger": source(failing=0.0, pause=0.02, concurrency=4)},
        streams=streams(2),
        nats=nats_server.url,
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, random.Random(3))
    sleeper = ledger.add()
    await ledger.owning(2)
    sleeper.process.freeze()
    taker = ledger.add()
    await eventually(lambda: any("owns 2 of 2 shards" in line for line in taker.process.stderr))
    await asyncio.gather(*(ledger.post(number, 20) for number in range(400)))
    await eventually(lambda: ledger.progress() > 50)
    await js.api("STREAM.PURGE.KV_jetrunner")
    ledger.thaw(sleeper)
    await asyncio.gather(*(ledger.post(number, 20) for number in range(400, 600)))
    await ledger.settled(within=60)
    await ledger.close()
    await ledger.judge()
    assert not ledger.problems, ledger.explain()
    lost = [line for line in taker.process.stderr if "another instance owns shard" in line]
    assert not lost, "its shards were given to the one that had lost them"
