"""Outputs into a stream that the server cannot tell of, because the only server that has it is away: they wait for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cluster import Cluster
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.shop import MINUTES, Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    @consume("orders.{id}", retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id)
        ctx.publish(f"audit.{order.id}", order.id)
"""


async def test_an_output_waits_for_a_stream_that_the_server_cannot_tell_of_and_says_so(
    cluster: Cluster, make_project: Callable[..., Project]
) -> None:
    async with RawJetStream.connect(cluster.url) as js:
        before = Shop(js, cluster.url, make_project)
        for name, subject, replicas in (("ORDERS", "orders.>", 3), ("AUDIT", "audit.>", 1)):
            fields = {"num_replicas": replicas, "allow_atomic": True, "allow_direct": True}
            await js.create(name, [subject], **fields, duplicate_window=15 * MINUTES)
        before.write(SOURCE)
        process = await before.running("charge")  # it makes our own streams while all servers are there
        process.terminate()
        assert await process.ended() == 0
    away = await cluster.leader("AUDIT")
    away.kill()
    there = ",".join(server.url for server in cluster.servers if server is not away)
    async with RawJetStream.connect(there) as js:
        shop = Shop(js, there, make_project)
        shop.write(SOURCE)
        process = await shop.running("charge")
        await shop.order(1)
        await process.seen(r"outputs to audit\.1: no success for .*cannot tell of the streams AUDIT")
        away.start()
        await shop.settled("charge")
        assert [each.json() for each in await js.messages("AUDIT")] == [1]
        assert len(shop.notes("run")) == 1
