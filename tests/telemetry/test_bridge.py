"""`runner trace bridge`: what real servers did with a message hangs in its trace, beside what its functions did."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from runner import connect
from runner.telemetry.query import Jaeger
from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jaeger import running
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TELLS = """
accounts {
  APP { jetstream: enabled, users: [{user: app, password: app}], msg_trace: { dest: "jetrunner.msgtrace", sampling: "100%" } }
  SYS { users: [{user: sys, password: sys}] }
}
system_account: SYS
no_auth_user: app
"""
SHOP = """
    from runner import consume, reply

    @consume("orders.{id}", output="paid.{id}")
    async def charge(body: bytes, id: str) -> bytes:
        return body

    @reply("quote.{id}")
    async def quote(id: str) -> str:
        return id
"""
TRACE, SENDER = "5" * 32, "6" * 16
SAMPLED = {"traceparent": f"00-{TRACE}-{SENDER}-01"}


class Shop:
    """A running project with its bridge, and the spans that come of both."""

    def __init__(self, project: Project, receiver: Receiver) -> None:
        self.project = project
        self.receiver = receiver
        project.environment |= {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            **PATIENT,
        }

    async def start(self, *command: str) -> RunnerProcess:
        process = self.project.start(*command)
        await process.seen("ready")
        return process

    async def spans(self, count: int) -> list[Span]:
        def of() -> list[Span]:
            return self.receiver.trace(TRACE)

        await asyncio.to_thread(self.receiver.wait, lambda _: len(of()) >= count, 60.0)
        return of()


@pytest.fixture
async def shop(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer], receiver: Receiver
) -> Shop:
    server = make_server(TELLS)
    async with RawJetStream.connect(server.url) as js:
        for stream in ("ORDERS", "PAID"):
            await js.create(stream, [f"{stream.lower()}.>"], allow_direct=True, allow_atomic=True)
    return Shop(make_project(functions={"shop": SHOP}, nats=server.url), receiver)


def named(spans: list[Span], name: str) -> Span:
    return next(each for each in spans if each.name.endswith(name))


@pytest.mark.since("2.14", "2.12 renames the traceparent of what it traces")
async def test_a_server_stands_between_who_sends_and_who_handles(shop: Shop) -> None:
    await shop.start("run")
    bridge = await shop.start("trace", "bridge")
    async with RawJetStream.connect(shop.project.environment["NATS_URL"]) as js:
        await js.publish("orders.a", b"x", SAMPLED)
    spans = await shop.spans(4)
    servers = [each for each in spans if each.service == "nats-server"]
    assert [each.kind for each in servers] == ["server", "server"]
    first, second = sorted(servers, key=lambda each: each.start_ns)
    assert first.parent_id == SENDER
    assert second.parent_id == named(spans, "send paid.a").span_id
    assert [event.attributes["nats.stream"] for each in (first, second) for event in each.events] == [
        "ORDERS",
        "PAID",
    ]
    assert first.attributes["messaging.destination.name"] == "orders.a"
    assert first.resource["service.version"]
    bridge.terminate()
    assert await bridge.ended() == 0


async def test_a_request_shows_the_server_on_its_way(shop: Shop) -> None:
    await shop.start("run")
    await shop.start("trace", "bridge")
    async with connect(shop.project.environment["NATS_URL"]) as app:
        assert await app.request("quote.a", None, returns=str, headers=SAMPLED) == "a"
    await asyncio.to_thread(shop.receiver.wait, lambda spans: len(spans) >= 2, 60.0)
    spans = shop.receiver.spans()
    passed, answered = next(each for each in spans if each.service == "nats-server"), named(spans, "quote")
    assert passed.events[0].name == "delivered"
    assert (passed.trace_id, passed.parent_id) == (answered.trace_id, answered.parent_id)


@pytest.mark.since("2.14", "2.12 renames the traceparent of what it traces")
async def test_jaeger_shows_the_server_in_the_trace(shop: Shop, tmp_path: Path) -> None:
    if not os.environ.get("JAEGER_BIN"):
        pytest.skip("JAEGER_BIN does not name a Jaeger binary: nothing here was tested against a real Jaeger")
    otlp, api = free_port(), free_port()
    with running(tmp_path, otlp=otlp, page=api):
        shop.project.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{otlp}"
        await eventually(lambda: listens(otlp))
        await shop.start("run")
        await shop.start("trace", "bridge")
        async with RawJetStream.connect(shop.project.environment["NATS_URL"]) as js:
            await js.publish("orders.a", b"x", SAMPLED)

        async def services() -> list[str]:
            found = await asyncio.to_thread(Jaeger(f"http://127.0.0.1:{api}").trace, TRACE)
            return sorted(f"{each.service}: {each.name}" for each in found)

        wanted = [
            "charge: charge",
            "charge: send paid.a",
            "nats-server: nats-server from client",
            "nats-server: nats-server from client",
        ]
        await eventually(lambda: is_(services, wanted))


async def is_(read: Callable[[], Awaitable[list[str]]], wanted: list[str]) -> bool:
    return await read() == wanted


async def test_two_bridges_share_the_work_and_what_nobody_can_read_ends_none(shop: Shop) -> None:
    one, other = await shop.start("trace", "bridge"), await shop.start("trace", "bridge")
    async with RawJetStream.connect(shop.project.environment["NATS_URL"]) as js:
        for body in (b"", b"{}", b"[" * 10_000, b"\xff"):
            await js.client.publish("jetrunner.msgtrace", body)
        for number in range(50):
            await js.publish(f"orders.{number}", b"x", {**SAMPLED, "Nats-Msg-Id": f"{number}"})
    spans = await shop.spans(50)
    assert len({each.span_id for each in spans}) == 50
    await eventually(lambda: any("could not be read" in each.output for each in (one, other)))
    assert one.running
    assert other.running


async def test_without_a_right_to_listen_it_says_so(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(
        'authorization { users: [{user: app, password: app, permissions: {subscribe: {allow: "_INBOX.>"}}}] }'
    )
    project = make_project(nats=server.url.replace("//", "//app:app@"))
    project.environment["OTEL_TRACES_EXPORTER"] = "otlp"
    process = project.start("trace", "bridge")
    await process.seen("Permissions Violation|permissions violation")


async def test_traces_that_are_turned_off_are_wrong_usage(make_project: Callable[..., Project]) -> None:
    project = make_project(nats="nats://127.0.0.1:1")
    project.environment["OTEL_TRACES_EXPORTER"] = "none"
    done = await asyncio.to_thread(project.runner, "trace", "bridge")
    assert done.code == 2
    assert "traces are turned off" in done.stderr


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    three = Cluster(tmp_path / "cluster", TELLS)
    try:
        three.start()
        await three.ready()
        yield three
    finally:
        three.stop()


async def test_every_server_of_a_cluster_that_a_message_passes_has_its_span(
    make_project: Callable[..., Project], cluster: Cluster, receiver: Receiver
) -> None:
    shop = Shop(make_project(functions={"shop": SHOP}, nats=cluster.servers[2].url), receiver)
    async with RawJetStream.connect(cluster.url) as js:
        for stream in ("ORDERS", "PAID"):
            await js.create(
                stream, [f"{stream.lower()}.>"], num_replicas=3, allow_direct=True, allow_atomic=True
            )
        leader = await cluster.leader("ORDERS")
    await shop.start("trace", "bridge")
    other = next(each for each in cluster.servers if each is not leader)
    async with RawJetStream.connect(other.url) as js:
        await js.publish("orders.first")  # so it is known here who leads the stream
        await js.publish("orders.a", b"x", SAMPLED)
    spans = await shop.spans(2)
    assert tree(spans[:2]).splitlines() == [
        f"nats-server: {name(cluster, other)} from client server sent on{{nats.to=route,nats.to.name={name(cluster, leader)}}}",
        f"  nats-server: {name(cluster, leader)} from route server stored{{nats.stream=ORDERS,nats.subject=orders.a}}",
    ]


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def name(cluster: Cluster, server: NatsServer) -> str:
    return f"n{cluster.servers.index(server) + 1}"
