"""Resizes of a stream's shards under load and faults: nothing lost, nothing out of order, every output once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.order import source
from tests.support.order_faults import at_work
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.store_faults import OLDER

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]


async def test_messages_of_a_key_keep_their_order_while_their_shards_change_whatever_happens(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    count, keys, number, seconds = (60_000, 1_000, 22, 90.0) if long else (5_000, 100, 4, 12.0)
    project = make_project(functions={"ledger": source()}, streams=streams(8), nats=nats_server.url)
    await project.applied()
    took: list[float] = []
    async with at_work(project, nats_server, js, random.Random(seed), 8) as faults:
        ledger = faults.ledger

        async def resize(load: asyncio.Task[None]) -> None:
            while not load.done():
                for shards in (32, 8):
                    began = time.monotonic()
                    while (await resized(project, shards)) != 0:  # the server was killed under it: it goes on
                        await asyncio.sleep(0.1)
                    took.append(time.monotonic() - began)
                    ledger.note(f"resized to {shards}")

        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(ledger.publish(count, keys, seconds))
            tasks.create_task(faults.trouble(number, seconds, without=[OLDER]))
            tasks.create_task(resize(load))
        await ledger.settled(within=120 if long else 60)
        await ledger.close()
        found = await ledger.judge()
    tell(
        f"resize: seed {seed}: {count} messages, {len(took)} times between 8 and 32 shards in "
        f"{min(took):.1f}-{max(took):.1f} s, {sum(faults.happened.values())} faults {faults.happened}: {found}"
    )
    assert not ledger.problems, f"seed {seed}\n{ledger.explain()}"


async def resized(project: Project, shards: int) -> int:
    command = project.start("shard", "resize", "LEDGER", str(shards))
    return await command.ended(within=120)
