"""Failover figures: from the end of an instance to the next start in each of its shards, over many ends under load."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.ledger import Instance, Ledger, streams
from tests.support.order import source
from tests.support.order_failover import Failover, figures
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(1200)]
SHARDS = 8


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_shards_move_in_milliseconds(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
    how: str,
) -> None:
    ends = 50 if long else 3
    luck = random.Random(seed)
    project = make_project(
        functions={"ledger": source(failing=0.0)}, streams=streams(SHARDS), nats=nats_server.url
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, luck)
    failover = Failover(ledger, js, SHARDS, 4)
    loading = asyncio.create_task(failover.load(400, 200))

    def end(instance: Instance) -> None:
        instance.process.signal(getattr(signal, how))
        if how == "SIGKILL":
            ledger.mark(f"K {instance.process.pid}")

    samples = [each for _ in range(ends) for each in await failover.end(end, luck)]
    failover.stop()
    await loading
    await ledger.settled(within=60)
    ledger.ended = [process for process in ledger.ended if process.code != -signal.SIGKILL]
    await ledger.close()
    found = await ledger.judge()
    starts = [line.split()[2] for line in ledger.journal.read_text().splitlines() if line[0] == "S"]
    tell(
        f"failover: seed {seed}: {ends} × {how}: {figures(samples)}; "
        f"{len(starts) - len(set(starts))} messages started again; {found}"
    )
    assert not ledger.problems, f"seed {seed}\n{ledger.explain()}"
    if how == "SIGTERM":
        assert len(starts) == len(set(starts)), "no message starts twice"
