"""Ordered functions under faults: nothing lost, nothing out of order, every output once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.order import source
from tests.support.order_faults import Ledger, streams
from tests.support.project import Project
from tests.support.proxy import Proxy
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
    count, keys, shards, faults, seconds = (
        (200_000, 1_000, 32, 55, 180.0) if long else (8_000, 100, 8, 11, 14.0)
    )
    luck = random.Random(seed)
    project = make_project(functions={"ledger": source()}, streams=streams(shards), nats=nats_server.url)
    applied = await asyncio.to_thread(project.runner, "apply")
    assert applied.code == 0, applied.stderr
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy.to(nats_server.port)) for _ in range(8)]
        ledger = Ledger(project, nats_server.url, js, luck, server=nats_server, proxies=proxies)
        for number in range(4):
            ledger.add(behind_proxy=number % 2 == 0)
        await ledger.owning(shards)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ledger.publish(count, keys, seconds))
            tasks.create_task(ledger.trouble(faults, seconds))
        await ledger.settled(within=240 if long else 30)
        await ledger.close()
        found = await ledger.judge()
    tell(
        f"order: seed {seed}: {count} messages, {sum(ledger.happened.values())} faults {ledger.happened}, "
        f"{time.monotonic() - began:.0f} s: {found}"
    )
    assert sum(ledger.happened.values()) == faults
    assert not ledger.problems, f"seed {seed}\n{ledger.explain()}"
