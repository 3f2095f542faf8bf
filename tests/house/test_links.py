"""What a proxy and a cluster's links do to what flows through them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.links import linked_cluster
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = pytest.mark.server


async def test_a_proxy_that_freezes_one_way_lets_the_other_go_on(nats_server: NatsServer) -> None:
    async with (
        Proxy.to(nats_server.port) as proxy,
        RawJetStream.connect(proxy.url) as near,
        RawJetStream.connect(nats_server.url) as far,
    ):
        at_near, at_far = await near.client.subscribe("near"), await far.client.subscribe("far")
        await near.client.flush()
        await far.client.flush()
        proxy.freeze("up")
        await near.client.publish("far", b"1")
        await far.client.publish("near", b"2")
        assert (await at_near.next_msg(timeout=60)).data == b"2"
        with pytest.raises(nats.errors.TimeoutError):
            await at_far.next_msg(timeout=0.1)
        proxy.thaw("up")
        assert (await at_far.next_msg(timeout=60)).data == b"1"
        proxy.freeze("down")
        await far.client.publish("near", b"3")
        await near.client.publish("far", b"4")
        assert (await at_far.next_msg(timeout=60)).data == b"4"
        with pytest.raises(nats.errors.TimeoutError):
            await at_near.next_msg(timeout=0.1)
        await proxy.mend()
        assert (await at_near.next_msg(timeout=60)).data == b"3"
        assert proxy.connections == 1


async def test_the_end_of_a_frozen_connection_is_held_like_its_bytes(nats_server: NatsServer) -> None:
    async with Proxy.to(nats_server.port) as proxy, RawJetStream.connect(nats_server.url) as js:
        heard = await js.client.subscribe("last.words")
        await js.client.flush()
        client = await nats.connect(proxy.url)
        (connected,) = proxy.open
        proxy.freeze("up")
        await client.publish("last.words", b"x")
        await client.close()
        with pytest.raises(nats.errors.TimeoutError):
            await heard.next_msg(timeout=0.1)
        assert proxy.open == {connected}, "the server knows nothing of its end"
        proxy.thaw()
        assert (await heard.next_msg(timeout=60)).data == b"x"
        await eventually(lambda: not proxy.open)


async def test_the_client_of_a_half_open_connection_is_told_nothing(nats_server: NatsServer) -> None:
    lost = anyio.Event()

    async def disconnected() -> None:
        lost.set()

    async def answer(message: Msg) -> None:
        await message.respond(b"yes")

    async with (
        Proxy.to(nats_server.port) as proxy,
        RawJetStream.connect(nats_server.url) as js,
        RawJetStream.connect(proxy.url, disconnected_cb=disconnected) as half,
    ):
        await half.client.subscribe("ask", cb=answer)
        await half.client.flush()
        assert (await js.client.request("ask", timeout=60)).data == b"yes"
        assert proxy.half_open() == 1

        async def gone() -> bool:
            try:
                await js.client.request("ask", timeout=0.1)
            except nats.errors.NoRespondersError:
                return True
            return False

        await eventually(gone)
        with pytest.raises(nats.errors.TimeoutError):
            await half.api("STREAM.NAMES", within=0.1)
        assert half.client.is_connected
        assert not lost.is_set()
        async with RawJetStream.connect(proxy.url) as new:
            assert await new.streams() == [], "new connections go through"
            await proxy.mend()
            await eventually(lost.is_set)
            assert await new.streams() == []
        assert await half.streams() == []


async def test_a_slow_proxy_delays_each_way_by_itself(nats_server: NatsServer) -> None:
    async with Proxy.to(nats_server.port) as proxy, RawJetStream.connect(proxy.url) as js:
        for ways, seconds in ((("up",), 0.05), (("down",), 0.05), (("up", "down"), 0.1)):
            proxy.delay(0.05, *ways)
            began = time.monotonic()
            await js.client.flush()
            took = time.monotonic() - began
            assert seconds <= took < seconds + 6, ways
            proxy.delay(0.0)
        began = time.monotonic()
        proxy.delay(0.05)
        await asyncio.gather(*[js.api("STREAM.NAMES") for _ in range(200)])
        assert 0.1 <= time.monotonic() - began < 10, "what is on its way together is late together"


class Listeners:
    """A client at each server, and which of them hear each other."""

    def __init__(self, clients: list[Client], subscriptions: list[Subscription]) -> None:
        self.clients = clients
        self.subscriptions = subscriptions

    @staticmethod
    @asynccontextmanager
    async def at(cluster: Cluster) -> AsyncIterator[Listeners]:
        async with AsyncExitStack() as stack:
            clients = []
            for server in cluster.servers:
                js = await stack.enter_async_context(RawJetStream.connect(server.url))
                clients.append(js.client)
            yield Listeners(clients, [await client.subscribe("words") for client in clients])

    async def hearing(self) -> set[tuple[int, int]]:
        """Speaker and listener, of all that hear each other within a moment."""
        await asyncio.gather(
            *(client.publish("words", f"{number}".encode()) for number, client in enumerate(self.clients))
        )
        found = set()
        await anyio.sleep(0.3)
        for listener, subscription in enumerate(self.subscriptions):
            while subscription.pending_msgs:
                speaker = int((await subscription.next_msg()).data)
                found |= {(speaker, listener)} - {(listener, listener)}
        return found

    async def hear(self, expected: set[tuple[int, int]]) -> None:
        """Return once exactly these hear each other; a server that stands still is not heard within the moment."""

        async def is_so() -> bool:
            return await self.hearing() == expected

        await eventually(is_so)


ALL = set(itertools.permutations(range(3), 2))


async def test_a_link_between_two_servers_is_cut_frozen_and_mended_by_itself(tmp_path: Path) -> None:
    async with linked_cluster(tmp_path) as (cluster, links), Listeners.at(cluster) as listeners:
        await listeners.hear(ALL)
        link = next(each for each in links if each.ends == (0, 1))
        await link.cut()
        await anyio.sleep(2)  # time enough to find another way, if there were one
        await listeners.hear(ALL - {(0, 1), (1, 0)})
        await link.mend()
        await listeners.hear(ALL)
        for sender, other in ((0, 1), (1, 0)):
            link.freeze(said_by=sender)
            await listeners.hear(ALL - {(sender, other)})
            await link.mend()
            await anyio.sleep(0.1)
            await listeners.hearing()  # what was held comes now
        await listeners.hear(ALL)


async def test_raft_groups_are_silenced_while_clients_go_on_to_hear_each_other(tmp_path: Path) -> None:
    async with (
        linked_cluster(tmp_path) as (cluster, links),
        Listeners.at(cluster) as listeners,
        RawJetStream.connect(cluster.url) as js,
    ):
        await js.create("ORDERS", ["orders.>"], num_replicas=3)
        leader = await cluster.leader("ORDERS")
        place = cluster.servers.index(leader)
        for link in links:
            if place in link.ends:
                link.freeze(raft_alone=True)
        others = [server for server in cluster.servers if server is not leader]
        async with RawJetStream.connect(",".join(server.url for server in others)) as rest:

            async def led_by_another() -> bool:
                info = await rest.stream("ORDERS")
                return bool(info["cluster"].get("leader") not in (None, f"n{place + 1}"))

            await eventually(led_by_another)
        await listeners.hear(ALL)
