"""Ordered functions under faults: nothing lost, nothing out of order, every output once."""

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

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(1200)]


async def test_messages_of_a_key_keep_their_order_whatever_happens(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    """Promises 2, 3 and 4, with every kind of fault at random moments."""
    count, keys, shards, number, seconds = (
        (200_000, 1_000, 32, 70, 220.0) if long else (8_000, 100, 8, 14, 16.0)
    )
    project = make_project(functions={"ledger": source()}, streams=streams(shards), nats=nats_server.url)
    await project.applied()
    began = time.monotonic()
    async with at_work(project, nats_server, js, random.Random(seed), shards) as faults:
        ledger = faults.ledger
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ledger.publish(count, keys, seconds))
            tasks.create_task(faults.trouble(number, seconds))
        await ledger.settled(
            within=240 if long else 90
        )  # an older store has a busy key run again, one by one
        await ledger.close()
        found = await ledger.judge()
    tell(
        f"order: seed {seed}: {count} messages, {sum(faults.happened.values())} faults {faults.happened}, "
        f"{time.monotonic() - began:.0f} s: {found}"
    )
    assert sum(faults.happened.values()) == number
    assert not ledger.problems, f"seed {seed}\n{ledger.explain()}"
