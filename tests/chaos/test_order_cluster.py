"""Order on three servers with R3 streams, while the leader of the stream is killed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.support.cluster import Cluster
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Ledger, streams
from tests.support.order import source
from tests.support.project import Project

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]


async def test_messages_keep_their_order_when_the_leader_of_their_stream_is_killed(
    make_project: Callable[..., Project],
    cluster: Cluster,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    count, keys, shards, kills, seconds = (40_000, 500, 16, 5, 75.0) if long else (3_000, 60, 4, 1, 8.0)
    luck = random.Random(seed)
    project = make_project(
        functions={"ledger": source()}, streams=streams(shards, replicas=3), nats=cluster.url
    )
    await project.applied()
    async with RawJetStream.connect(cluster.url) as js:
        ledger = Ledger(project, cluster.url, js, luck)
        for _ in range(3):
            ledger.add()
        for instance in ledger.instances:  # all at once make what the project needs of streams
            await instance.process.seen("ready", within=60)
        await ledger.owning(shards, within=60)
        publishing = asyncio.create_task(ledger.publish(count, keys, seconds))
        pauses = []
        for _ in range(kills):
            await asyncio.sleep(seconds / kills * luck.uniform(0.2, 0.5))
            leader = await cluster.leader("LEDGER")
            ledger.note(f"kill the leader {leader.url}")
            leader.kill()
            killed = time.time()
            await asyncio.sleep(luck.uniform(0.0, 2.0))
            if luck.random() < 0.5:  # what the dead leader forgot, its owner knows no more either
                await ledger.kill()
            await asyncio.to_thread(leader.start)
            await asyncio.sleep(seconds / kills * 0.5)
            pauses.append(ledger.longest_pause(killed))
        await publishing
        await ledger.settled(within=60)
        await ledger.close()
        found = await ledger.judge()
    tell(
        f"order on R3: seed {seed}: {count} messages, {kills} leaders killed, longest pauses "
        f"{', '.join(f'{pause:.1f} s' for pause in pauses)}: {found}"
    )
    assert not ledger.problems, f"seed {seed}\n{ledger.explain()}"
