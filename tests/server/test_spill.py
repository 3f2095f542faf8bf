"""What was dropped while it waited is fetched from a real server when its turn comes, no sooner than there are slots."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from runner.config import Settings
from runner.core.ordering import Ordering
from runner.jetstream.connection import connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.messages import nanoseconds
from runner.ordered.spill import AT_ONCE, SPILLED, Spill
from runner.runtime.histories import Histories
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

COUNT = 60


class Looking(Spill):
    """Counts how often it looks for room."""

    looks = 0

    def _ahead(self, fetched: list[Delivery]) -> int:
        self.looks += 1
        return super()._ahead(fetched)


def not_gone(delivery: Delivery) -> None:
    raise AssertionError(f"message {delivery.sequence} is in the stream")


async def test_while_no_slot_is_free_it_is_seldom_looked_for_one(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("LEDGER", ["ledger.>"])
    for number in range(COUNT):
        await js.publish(f"ledger.{number}", b"%d" % number)
    unsettled: dict[int, Delivery] = {}
    brought: list[int] = []
    source: Any = SimpleNamespace(unsettled=unsettled)
    async with connect(Settings(nats_url=nats_server.url)) as connection, anyio.create_task_group() as tasks:
        process: Any = SimpleNamespace(connection=connection, tasks=tasks)
        history = Histories(connection, tasks).of("LEDGER")
        spill = Looking(process, history, Ordering(), unsettled, brought.extend, not_gone, not_gone)
        for sequence in range(1, COUNT + 1):
            stored = nanoseconds((await js.message("LEDGER", sequence)).time)
            reply = b"$JS.ACK.LEDGER.post.1.%d.%d.%d.0" % (sequence, sequence, stored)
            unsettled[sequence] = Delivery(
                b"ledger", reply, None, SPILLED, sequence, 1, source, careful=False
            )
        for delivery in unsettled.values():
            spill.restore(delivery)
        await eventually(lambda: len(brought) >= AT_ONCE)
        began, looks = time.monotonic(), spill.looks
        await eventually(lambda: spill.looks >= looks + 12 * AT_ONCE)
        assert time.monotonic() - began > 0.5
        assert len(brought) < 2 * AT_ONCE

        def is_all_brought() -> bool:
            for sequence in brought:
                unsettled[sequence].started = 1.0
            return len(brought) == COUNT

        await eventually(is_all_brought)
    assert [unsettled[sequence].body for sequence in sorted(brought)] == [b"%d" % n for n in range(COUNT)]


async def test_a_leader_that_its_servers_do_not_follow_is_not_believed_that_a_message_is_gone(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been deposed, and not know of the message; what is not there would be passed over for good."""
    unsettled: dict[int, Delivery] = {}
    passed: list[int] = []
    async with (
        RawJetStream.connect(cluster.url) as js,
        connect(Settings(nats_url=cluster.url)) as connection,
        anyio.create_task_group() as tasks,
    ):
        await js.create("LEDGER", ["ledger.>"], num_replicas=3)
        await js.publish("ledger.1")
        stored = nanoseconds((await js.message("LEDGER", 1)).time)
        await js.api("STREAM.MSG.DELETE.LEDGER", {"seq": 1})

        def ack(delivery: Delivery) -> None:
            passed.append(delivery.sequence)
            del unsettled[delivery.sequence]

        history = Histories(connection, tasks).of("LEDGER")
        source: Any = SimpleNamespace(unsettled=unsettled)
        process: Any = SimpleNamespace(connection=connection, tasks=tasks)
        spill = Spill(process, history, Ordering(), unsettled, lambda _: None, ack, ack)
        await history.check()
        leader = await cluster.leader("LEDGER")
        others = [server for server in cluster.servers if server is not leader]
        async with RawJetStream.connect(leader.url) as alone:
            for server in others:
                server.freeze()

            async def is_left() -> bool:
                replicas = (await alone.stream("LEDGER"))["cluster"]["replicas"]
                return all(each["active"] > 2.1e9 for each in replicas)

            await eventually(is_left)
            reply = b"$JS.ACK.LEDGER.post.1.1.1.%d.0" % stored
            delivery = unsettled[1] = Delivery(b"ledger", reply, None, SPILLED, 1, 1, source, careful=False)
            spill.restore(delivery)
            await eventually(lambda: passed or "cannot be fetched yet" in caplog.text)
            assert passed == []
            for server in others:
                server.thaw()
        await eventually(lambda: passed == [1])
        assert "was removed before its turn came" in caplog.text
        tasks.cancel_scope.cancel()
