"""Failures in the bucket of a real server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest
from anyio.abc import TaskGroup

from runner.config import Settings
from runner.core.address import Address
from runner.core.failurerecord import FailureRecord
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.kv import KV, PATIENCE_SECONDS
from runner.ordered.failures import Failures
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

KEYS = "$KV.jetrunner.failures.shop.post.1.0."
STORED = 1_700_000_000_000_000_000
"""When the messages were stored."""


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        yield live


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    async with anyio.create_task_group() as group:
        yield group


class Owner:
    """One that owns the shard until it is told otherwise."""

    def __init__(self, connection: Connection, tasks: TaskGroup) -> None:
        kv = KV(connection, PATIENCE_SECONDS)
        process: Any = SimpleNamespace(connection=connection, kv=kv, project="shop", tasks=tasks)
        self.ownership: Any = self
        fences: Any = self
        self.failures = Failures(process, Address("shop", "post", "POSTS", 1, 0), fences)
        self.owns = True
        self.unsettled: dict[int, Delivery] = {}

    async def lasts(self) -> bool:
        return self.owns

    def end(self) -> None:
        self.unsettled.clear()

    def deliver(self, sequence: int, stored: int = STORED) -> Delivery:
        source: Any = self
        reply = b"$JS.ACK.LEDGER.post.1.%d.1.%d.0" % (sequence, stored)
        delivery = self.unsettled[sequence] = Delivery(
            b"", reply, None, b"", sequence, 1, source, careful=False
        )
        return delivery

    @property
    def counts(self) -> dict[int, int]:
        return {sequence: known.failed.count for sequence, known in self.failures.known.items()}


@pytest.fixture
def owner(connection: Connection, tasks: TaskGroup) -> Owner:
    return Owner(connection, tasks)


@pytest.fixture
def make_owner(connection: Connection, tasks: TaskGroup) -> Callable[[], Owner]:
    return lambda: Owner(connection, tasks)


async def stored(js: RawJetStream) -> dict[int, FailureRecord]:
    messages = await js.messages("KV_jetrunner", KEYS + ">")
    return {
        int(each.subject.removeprefix(KEYS)): msgspec.json.decode(each.body, type=FailureRecord)
        for each in messages
    }


async def test_counts_below_the_floor_are_forgotten_for_good(owner: Owner, js: RawJetStream) -> None:
    """Written by an earlier release, whose records are numbers; one of what comes back is not a message's."""
    for sequence, count in {3: 2, 4: 0, 9: 1, -(1 << 61): 1}.items():
        await js.publish(f"{KEYS}{sequence}", b"%d" % count)
    await owner.failures.load()
    assert owner.counts == {3: 2, 9: 1}
    owner.failures.forget_below(8)
    assert owner.counts == {9: 1}

    async def is_gone() -> bool:
        return f"{KEYS}3" not in [each.subject for each in await js.messages("KV_jetrunner", KEYS + ">")]

    await eventually(is_gone)
    await owner.failures.load()
    assert owner.counts == {9: 1}


async def test_a_failure_of_what_is_settled_is_not_counted(owner: Owner, js: RawJetStream) -> None:
    waits, settled = owner.deliver(1), owner.deliver(2)
    del owner.unsettled[2]
    assert await owner.failures.next_attempt(waits, 0.0) == 0.0
    assert await owner.failures.next_attempt(settled, 0.0) is None
    assert (waits.attempt, settled.attempt) == (2, 1)
    assert owner.counts == {1: 1}
    assert [each.count for each in (await stored(js)).values()] == [1]


async def test_a_failure_of_what_is_settled_while_it_is_counted_does_not_run_again(
    owner: Owner, nats_server: NatsServer
) -> None:
    delivery = owner.deliver(1)
    nats_server.freeze()
    async with anyio.create_task_group() as counting:
        counted: list[float | None] = []

        async def count() -> None:
            counted.append(await owner.failures.next_attempt(delivery, 0.0))

        counting.start_soon(count)
        await anyio.wait_all_tasks_blocked()
        del owner.unsettled[1]  # the shard is lost
        nats_server.thaw()
    assert counted == [None]
    assert (owner.counts, delivery.attempt) == ({}, 1)


async def test_the_next_owner_counts_on_and_keeps_what_is_left_of_the_delay(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    await owner.failures.next_attempt(owner.deliver(1), 0.0)
    rest = await owner.failures.next_attempt(owner.deliver(1), 90.0)
    assert rest is not None
    assert 60 < rest <= 90
    heir = make_owner()
    await heir.failures.load()
    failed = heir.failures.of(1, STORED)
    assert failed is not None
    assert (failed.count, 60 < failed.rest(time.time()) <= 90) == (2, True)
    again = heir.deliver(1)
    await heir.failures.next_attempt(again, 0.0)
    assert (again.attempt, heir.counts) == (4, {1: 3})
    assert (await stored(js))[1].count == 3


async def test_what_an_owner_writes_that_has_lost_the_shard_counts_nothing_away(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    """It stood still for a while, and knows of one failure; its successor has counted three."""
    late = owner.deliver(1)
    await owner.failures.next_attempt(late, 0.0)
    heir = make_owner()
    await heir.failures.load()
    for _ in range(2):
        await heir.failures.next_attempt(heir.deliver(1), 0.0)
    owner.owns = False
    assert await owner.failures.next_attempt(late, 0.0) is None
    assert (await stored(js))[1].count == 3


async def test_an_owner_counts_what_it_has_seen_whatever_a_predecessor_has_written_late(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    heir = make_owner()
    await heir.failures.load()
    await owner.failures.next_attempt(
        owner.deliver(1), 0.0
    )  # it does not know yet that the shard is not its own
    delivery = heir.deliver(1)
    await heir.failures.next_attempt(delivery, 0.0)
    assert (delivery.attempt, heir.counts, (await stored(js))[1].count) == (2, {1: 1}, 1)


async def test_what_is_recorded_of_another_message_of_the_same_number_says_nothing(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    """The stream was made again, or went back to an older copy."""
    for _ in range(4):
        await owner.failures.next_attempt(owner.deliver(1), 90.0)
    heir = make_owner()
    await heir.failures.load()
    delivery = heir.deliver(1, STORED + 1)
    failed = heir.failures.of(1, STORED + 1)
    assert failed is None or (failed.count, failed.rest(time.time())) == (0, 0)
    await heir.failures.next_attempt(delivery, 0.0)
    assert (delivery.attempt, (await stored(js))[1].count) == (2, 1)
    await heir.failures.drop(1)
    assert await stored(js) == {}


async def test_a_predecessor_that_removes_a_record_late_removes_its_own(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    await owner.failures.next_attempt(owner.deliver(1), 0.0)
    heir = make_owner()
    await heir.failures.load()
    await heir.failures.next_attempt(heir.deliver(1), 0.0)
    await owner.failures.drop(1)
    assert (await stored(js))[1].count == 2
    await heir.failures.drop(1)
    assert await stored(js) == {}


async def test_what_is_known_is_written_again_when_the_bucket_was_emptied(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    await owner.failures.next_attempt(owner.deliver(1), 90.0)
    await owner.failures.next_attempt(owner.deliver(2), 0.0)
    before = await stored(js)
    await js.api("STREAM.PURGE.KV_jetrunner")
    await owner.failures.rewrite()
    assert await stored(js) == before
    heir = make_owner()
    await heir.failures.load()
    await heir.failures.next_attempt(heir.deliver(1), 0.0)
    await owner.failures.rewrite()
    assert (await stored(js))[1].count == 2


async def test_what_is_known_is_written_over_what_stands_in_a_bucket_that_went_back(
    owner: Owner, make_owner: Callable[[], Owner], js: RawJetStream
) -> None:
    """An older record stands there, or one about another message: the next owner would wait less, and count from there."""
    await owner.failures.next_attempt(owner.deliver(1), 0.0)
    older = await js.messages("KV_jetrunner", KEYS + ">")
    await owner.failures.next_attempt(owner.deliver(1), 90.0)
    await owner.failures.next_attempt(owner.deliver(2), 0.0)
    now = await stored(js)
    await js.api("STREAM.PURGE.KV_jetrunner")
    await js.publish(f"{KEYS}1", older[0].body)
    await js.publish(f"{KEYS}2", msgspec.json.encode(FailureRecord(7, message=STORED - 1)))
    await owner.failures.rewrite()
    assert await stored(js) == now
    await owner.failures.next_attempt(owner.deliver(1), 0.0)
    assert owner.counts == {1: 3, 2: 1}
    heir = make_owner()
    await heir.failures.load()
    assert heir.counts == {1: 3, 2: 1}


async def test_an_owner_that_has_lost_the_shard_writes_nothing_over_its_successors_records(
    owner: Owner, js: RawJetStream
) -> None:
    await owner.failures.next_attempt(owner.deliver(1), 0.0)
    await js.api("STREAM.PURGE.KV_jetrunner")
    await js.publish(f"{KEYS}1", msgspec.json.encode(FailureRecord(1, message=STORED, due=5.0)))
    owner.owns = False
    await owner.failures.rewrite()
    assert (await stored(js))[1].due == 5.0
