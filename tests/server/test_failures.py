"""Counts of failures in the bucket of a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from runner.config import Settings
from runner.engine.failures import Failures
from runner.jetstream import ownstreams
from runner.jetstream.bucket import Bucket
from runner.jetstream.connection import Connection, connect
from runner.jetstream.delivery import Delivery
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(60)]

KEYS = "$KV.jetrunner.failures.shop.post.1.0."


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        yield live


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    async with anyio.create_task_group() as group:
        yield group


@pytest.fixture
def failures(connection: Connection, tasks: TaskGroup) -> Failures:
    process: Any = SimpleNamespace(
        connection=connection, bucket=Bucket(connection), project="shop", tasks=tasks
    )
    return Failures(process, "post", 1, 0)


async def stored(js: RawJetStream) -> dict[int, bytes]:
    messages = await js.messages("KV_jetrunner", KEYS + ">")
    return {int(message.subject.removeprefix(KEYS)): message.body for message in messages}


class Source:
    """Where a delivery is settled by taking it out of `unsettled`."""

    def __init__(self) -> None:
        self.unsettled: dict[int, Delivery] = {}

    def deliver(self, sequence: int) -> Delivery:
        source: Any = self
        delivery = self.unsettled[sequence] = Delivery(b"", b"", None, b"", sequence, 1, source)
        return delivery


async def test_counts_below_the_floor_are_forgotten_for_good(failures: Failures, js: RawJetStream) -> None:
    parked = -(1 << 61)
    for sequence, count in {3: 2, 4: 0, 9: 1, parked: 1}.items():
        await js.publish(f"{KEYS}{sequence}", b"%d" % count)
    await failures.load()
    assert failures.counts == {3: 2, 9: 1, parked: 1}
    failures.forget_below(8)
    assert failures.counts == {9: 1, parked: 1}

    async def is_gone() -> bool:
        return 3 not in await stored(js)

    await eventually(is_gone)
    await failures.load()
    assert failures.counts == {9: 1, parked: 1}


async def test_a_failure_of_what_is_settled_is_not_counted(failures: Failures, js: RawJetStream) -> None:
    source = Source()
    waits, settled = source.deliver(1), source.deliver(2)
    del source.unsettled[2]
    assert await failures.next_attempt(waits)
    assert not await failures.next_attempt(settled)
    assert (waits.attempt, settled.attempt) == (2, 1)
    assert failures.counts == {1: 1}
    assert await stored(js) == {1: b"1"}


async def test_a_failure_of_what_is_settled_while_it_is_counted_does_not_run_again(
    failures: Failures, nats_server: NatsServer
) -> None:
    source = Source()
    delivery = source.deliver(1)
    nats_server.freeze()
    async with anyio.create_task_group() as counting:
        counted: list[bool] = []

        async def count() -> None:
            counted.append(await failures.next_attempt(delivery))

        counting.start_soon(count)
        await anyio.wait_all_tasks_blocked()
        del source.unsettled[1]  # the shard is lost
        nats_server.thaw()
    assert counted == [False]
    assert (failures.counts, delivery.attempt) == ({}, 1)
