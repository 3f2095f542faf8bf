"""Promise 2 in a partition: an instance that cannot be reached is not one that is gone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Instance, Ledger, streams
from tests.support.member import leased
from tests.support.order import source
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@asynccontextmanager
async def elsewhere(server: NatsServer) -> AsyncIterator[Client]:
    """A client that plays members at a server to which the way is gone."""
    client = await nats.connect(server.url)
    try:
        yield client
    finally:
        await client.close()


async def started(make_project: Callable[..., Project], server: NatsServer, js: RawJetStream) -> Ledger:
    """One shard; it is "far"'s, of which nothing is to be heard, and a runner is there, too."""
    project = make_project(functions={"ledger": source(failing=0.0)}, streams=streams(1), nats=server.url)
    await project.applied()
    ledger = Ledger(project, server.url, js, random.Random(1))
    instance = ledger.add()
    await ledger.owning(1)
    await end(instance)  # what the runner needs of streams is there now
    await js.publish("$KV.jetrunner.claim.shop.post.1.0", {"owner": "far", "epoch": 50, "since": 0.0})
    return ledger


async def end(instance: Instance) -> None:
    instance.process.terminate()
    await eventually(lambda: not instance.process.running)


async def test_who_cannot_be_reached_keeps_its_shards_as_long_as_its_lease(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    ledger = await started(make_project, nats_server, js)
    async with elsewhere(nats_server) as client:
        async with leased(client, "far", ["post"], server="ELSEWHERE") as lease:
            instance = ledger.add()
            for number in range(5):
                await ledger.post(number, 3)
            reads = await client.subscribe("$JS.API.DIRECT.GET.KV_jetrunner")
            for _ in range(
                12
            ):  # it reads the leases twice a second, and more often while somebody says something
                await reads.next_msg(timeout=60)
            # Unless this process, which renews the lease, stood still for about as long as that lasts.
            assert ledger.journal.read_bytes() == b"" or lease.longest_pause > 2.0, "nothing has started"
        await ledger.settled(within=60)
    assert not ledger.problems, ledger.explain()
    await end(instance)


async def test_who_is_silent_at_a_server_that_answers_is_gone_at_once(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    ledger = await started(make_project, nats_server, js)
    async with elsewhere(nats_server) as client:

        async def alive(probe: Msg) -> None:
            await probe.respond(b"")

        await client.subscribe("jetrunner.shop.alive.witness", cb=alive)
        async with leased(client, "witness", [], server="ELSEWHERE"):
            async with leased(client, "far", ["post"], server="ELSEWHERE"):  # it would not end by itself
                instance = ledger.add()
                for number in range(5):
                    await ledger.post(number, 3)
                await instance.process.seen("instance far is gone: its connection is gone")
            await ledger.settled(within=60)
    assert not ledger.problems, ledger.explain()
    await end(instance)
