"""The ground the server tests stand on does what it says."""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio
import nats
import pytest

from tests.support.certificates import Certificates
from tests.support.cluster import Cluster
from tests.support.eventually import eventually, until
from tests.support.jetstream import ApiError, RawJetStream
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = pytest.mark.server


async def test_a_killed_server_comes_back_on_its_port_with_what_it_had_stored(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    assert await js.publish("orders.1", {"id": 1}, {"Tenant": "a"}) == 1
    nats_server.restart(kill=True)
    (stored,) = await js.messages("ORDERS")
    assert (stored.subject, stored.json(), stored.headers) == ("orders.1", {"id": 1}, {"Tenant": "a"})


async def test_a_frozen_server_answers_again_once_it_is_thawed(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    nats_server.freeze()
    with pytest.raises(nats.errors.TimeoutError):
        await js.api("STREAM.NAMES", within=0.1)
    nats_server.thaw()
    assert await js.streams() == []


async def test_a_refused_call_names_the_servers_code(js: RawJetStream) -> None:
    with pytest.raises(ApiError, match="10059"):
        await js.stream("NONE")
    assert await js.count("NONE") == 0


def test_a_server_with_a_broken_configuration_says_why(make_server: Callable[..., NatsServer]) -> None:
    with pytest.raises(RuntimeError, match="unknown_field"):
        make_server("unknown_field: 1")


async def test_a_server_takes_passwords_and_tls(
    make_server: Callable[..., NatsServer], certificates: Certificates
) -> None:
    server = make_server(certificates.config() + "\nauthorization { user: ada, password: secret }")
    async with RawJetStream.connect(server.url_as("ada", "secret"), tls=certificates.context()) as js:
        assert await js.streams() == []


async def test_a_cut_proxy_breaks_connections_and_lets_them_come_back(nats_server: NatsServer) -> None:
    async with Proxy.to(nats_server.port) as proxy, RawJetStream.connect(proxy.url) as js:
        assert await js.streams() == []
        await proxy.cut()
        await eventually(lambda: proxy.connections >= 2 and js.client.is_connected)
        assert await js.streams() == []


async def test_a_frozen_proxy_holds_every_byte_until_it_is_thawed(nats_server: NatsServer) -> None:
    async with Proxy.to(nats_server.port) as proxy, RawJetStream.connect(proxy.url) as js:
        proxy.freeze()
        with pytest.raises(nats.errors.TimeoutError):
            await js.api("STREAM.NAMES", within=0.1)
        proxy.thaw()
        assert await js.streams() == []


async def test_a_cluster_elects_another_leader_when_one_is_killed(cluster: Cluster) -> None:
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.>"], num_replicas=3)
        (await cluster.leader("ORDERS")).kill()
        assert await eventually(lambda: js.publish("orders.1", "x", within=1), within=60)


async def test_a_condition_that_never_comes_fails_with_its_last_value() -> None:
    with pytest.raises(AssertionError, match="the last value was 0"):
        await eventually(lambda: 0, within=0.02)
    with pytest.raises(AssertionError, match="it raised KeyError"):
        until(lambda: os.environ["NO_SUCH_NAME"], within=0.02)


async def test_waiting_leaves_the_loop_free() -> None:
    done = anyio.Event()

    async def finish() -> None:
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish)
        await eventually(done.is_set)


def test_a_stopped_server_is_gone(nats_server: NatsServer) -> None:
    pid = nats_server.pid
    nats_server.stop()
    assert not nats_server.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
