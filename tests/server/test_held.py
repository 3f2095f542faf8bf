"""What was dropped while it waited is fetched from a real server when its turn comes, no sooner than there are slots."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from runner.config import Settings
from runner.engine.held import AHEAD, AT_ONCE, DROPPED, Held
from runner.jetstream.connection import connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.stored import nanoseconds
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(60)]

COUNT = 60


class Looking(Held):
    """Counts how often it looks for room."""

    looks = 0

    def _ahead(self) -> int:
        self.looks += 1
        return super()._ahead()


async def test_while_no_slot_is_free_it_is_seldom_looked_for_one(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("LEDGER", ["ledger.>"])
    for number in range(COUNT):
        await js.publish(f"ledger.{number}", b"%d" % number)
    unsettled: dict[int, Delivery] = {}
    brought: list[int] = []
    shard: Any = SimpleNamespace(
        stream="LEDGER", unsettled=unsettled, ordering=SimpleNamespace(behind=lambda *_: [])
    )
    async with connect(Settings(nats_url=nats_server.url)) as connection, anyio.create_task_group() as tasks:
        process: Any = SimpleNamespace(connection=connection, tasks=tasks)
        held = Looking(process, shard, brought.extend)
        for sequence in range(1, COUNT + 1):
            stored = nanoseconds((await js.message("LEDGER", sequence)).time)
            reply = b"$JS.ACK.LEDGER.post.1.%d.%d.%d.0" % (sequence, sequence, stored)
            source: Any = shard
            unsettled[sequence] = Delivery(b"ledger", reply, None, DROPPED, sequence, 1, source)
        for delivery in unsettled.values():
            held.bring(delivery)
        await eventually(lambda: len(brought) >= AHEAD)
        began, looks = time.monotonic(), held.looks
        await eventually(lambda: held.looks >= looks + 2 * AT_ONCE)
        assert time.monotonic() - began > 0.5
        assert len(brought) < AHEAD + AT_ONCE

        def is_all_brought() -> bool:
            for sequence in brought:
                unsettled[sequence].started = 1.0
            return len(brought) == COUNT

        await eventually(is_all_brought)
    assert [unsettled[sequence].body for sequence in sorted(brought)] == [b"%d" % n for n in range(COUNT)]
