"""`app.publish` tells a stream without a leader from one that is not there, and stores no message twice."""

from __future__ import annotations

import asyncio

import pytest

import runner
from runner import client
from runner.config import Settings
from runner.errors import NoStream, ServerError, Unconfirmed
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer, freeze

pytestmark = [pytest.mark.server, pytest.mark.anyio]

NAMED = {"Nats-Msg-Id": "one"}


async def left_without(cluster: Cluster) -> tuple[NatsServer, NatsServer]:
    """The one server that has `ORDERS`, killed, and another, which knows that nobody listens any more."""
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.*"])
    holder = await cluster.leader("ORDERS")
    other = next(server for server in cluster.servers if server is not holder)
    holder.kill()
    async with RawJetStream.connect(other.url) as js:
        await eventually(lambda: js.unheard("orders.1"))
    return holder, other


@pytest.mark.parametrize("headers", [{}, NAMED], ids=["plain", "named"])
async def test_a_publish_waits_for_a_stream_whose_server_is_away_and_is_stored_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 60.0)  # a server's start takes its time on a busy machine
    holder, other = await left_without(cluster)
    async with runner.connect(settings=Settings(nats_url=other.url)) as app:
        publishing = asyncio.create_task(app.publish("orders.1", b"x", headers=headers))
        await app.connection.client.flush()
        holder.start()
        assert (await publishing).seq == 1
    async with RawJetStream.connect(holder.url) as js:
        assert [message.body for message in await js.messages("ORDERS")] == [b"x"]


@pytest.mark.parametrize("headers", [{}, NAMED], ids=["plain", "named"])
async def test_a_publish_that_finds_no_leader_in_its_time_says_that(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 0.5)
    _, other = await left_without(cluster)
    async with runner.connect(settings=Settings(nats_url=other.url)) as app:
        with pytest.raises(
            ServerError, match=r"stream ORDERS has no leader|cluster has no leader"
        ) as refused:
            await app.publish("orders.1", b"x", headers=headers)
        assert not isinstance(refused.value, NoStream)
        assert "start the servers of the stream" in refused.value.hint

        async def absent() -> str:
            try:
                await app.publish("nowhere.1", b"x", headers=headers)
            except NoStream as error:
                return str(error)
            except ServerError:  # the killed server has led the cluster, which elects another
                return ""
            return "stored"

        assert await eventually(absent) == "no stream captures nowhere.1"


async def test_a_publish_of_which_an_earlier_try_had_no_answer_is_in_doubt(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server with the stream stands still at the first try, and is away at the last one."""
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 6.0)
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.*"])
    holder = await cluster.leader("ORDERS")
    other = next(server for server in cluster.servers if server is not holder)
    async with runner.connect(settings=Settings(nats_url=other.url)) as app:
        freeze(holder.pid)
        publishing = asyncio.create_task(app.publish("orders.1", b"x", headers=NAMED))
        await asyncio.sleep(0)
        await app.connection.client.flush()
        holder.kill()
        with pytest.raises(Unconfirmed):
            await publishing


async def test_a_publish_that_something_other_than_a_stream_answers_is_in_doubt_and_not_sent_again(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    """The stream has stored the message, but gives no answer itself."""
    await js.create("ORDERS", ["orders.*"], no_ack=True)
    await js.thank("orders.*")
    async with runner.connect(settings=Settings(nats_url=nats_server.url)) as app:
        with pytest.raises(Unconfirmed, match="something other than a stream answers") as doubt:
            await app.publish("orders.1", b"x")
        assert "it may be stored" in doubt.value.hint
    assert await js.count("ORDERS") == 1
