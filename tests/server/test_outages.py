"""The running process through outages of the server: killed, frozen, without its leader, closed for good, lowered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.server.conftest import reload
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer, binary

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    import asyncio

    from journal import note
    from runner import Context, RetryPolicy, consume

    @consume("orders.*", output="paid.all", concurrency=16, retry=RetryPolicy.fixed(0.05, attempts=3))
    async def charge(order: dict, ctx: Context) -> dict:
        note("start", id=order["id"])
        await asyncio.sleep(order.get("seconds", 0.01))
        if order.get("fail"):
            raise ValueError("not today")
        note("charge", id=order["id"], attempt=ctx.attempt)
        return {"id": order["id"], "padding": "x" * order.get("size", 0)}
"""


PATIENT = "from runner.jetstream import consumer\n\nconsumer.ACK_WAIT_SECONDS = 60.0\n"
"""The server gives no message again because the silence lasts longer than a test means it to."""


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"orders": CHARGE})


@pytest.fixture
async def orders(js: RawJetStream) -> RawJetStream:
    await streams(js)
    return js


async def streams(js: RawJetStream, **fields: Any) -> None:
    await js.create("ORDERS", ["orders.*"], **fields)
    await js.create("PAID", ["paid.*"], **fields)


async def started(project: Project, js: RawJetStream, url: str, **environment: str) -> RunnerProcess:
    """A runner that waits for messages."""
    process = project.start("run", "--nats-url", url, **environment)

    async def reads() -> bool:
        if not process.running:
            return True
        return bool((await js.consumer("ORDERS", "shop-charge"))["num_waiting"])

    await eventually(reads)
    assert process.running, process.output
    return process


async def send(js: RawJetStream, numbers: range, **fields: Any) -> None:
    """Store orders, each once, whatever happens to the server meanwhile."""

    async def one(number: int) -> None:
        headers = {"Nats-Msg-Id": f"order-{number}"}
        await eventually(
            lambda: js.publish(f"orders.{number % 7}", {"id": number, **fields}, headers, within=1)
        )

    await asyncio.gather(*[one(number) for number in numbers])


async def paid(js: RawJetStream, numbers: range) -> bool:
    """Whether the outputs of exactly these orders stand, each once."""
    if await js.count("PAID") < len(numbers):
        return False
    return sorted(output.json()["id"] for output in await js.messages("PAID")) == list(numbers)


async def test_a_server_killed_and_started_again_loses_nothing(
    project: Project, nats_server: NatsServer, orders: RawJetStream, wire: str
) -> None:
    process = await started(project, orders, nats_server.url, JETRUNNER_WIRE=wire)
    for turn in range(3):
        sending = asyncio.create_task(send(orders, range(turn * 100, turn * 100 + 100)))
        await eventually(lambda: len(project.journal("charge")) > turn * 100)  # noqa: B023 - awaited right here
        await asyncio.to_thread(nats_server.restart, kill=True)
        await sending
    await eventually(partial(paid, orders, range(300)))
    assert process.running
    process.terminate()
    assert await process.ended() == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["server", "connection"])
async def test_a_silence_is_outlived_and_what_was_in_work_is_settled_without_another_run(
    project: Project, nats_server: NatsServer, orders: RawJetStream, how: str
) -> None:
    project.function("patient", PATIENT)
    async with Proxy.to(nats_server.port) as proxy:
        process = await started(project, orders, proxy.url)
        await send(orders, range(10), seconds=1.0)
        await eventually(lambda: len(project.journal("start")) == 10)
        if how == "server":
            nats_server.freeze()
        else:
            proxy.freeze()
        await eventually(lambda: len(project.journal("charge")) == 10)  # they end in the silence
        await asyncio.sleep(1)
        if how == "server":
            nats_server.thaw()
        else:
            proxy.thaw()
        await send(orders, range(10, 20))
        await eventually(partial(paid, orders, range(20)))
        await eventually(lambda: orders.settled("ORDERS", "shop-charge"))
        assert len(project.journal("charge")) == 20, process.output
        assert process.running


async def test_a_cut_connection_is_connected_again_and_settles_what_ended_meanwhile(
    project: Project, nats_server: NatsServer, orders: RawJetStream
) -> None:
    project.function("patient", PATIENT)
    async with Proxy.to(nats_server.port) as proxy:
        process = await started(project, orders, proxy.url)
        await send(orders, range(10), seconds=0.5)
        await eventually(lambda: len(project.journal("start")) == 10)
        await proxy.cut(refuse=True)
        await eventually(lambda: len(project.journal("charge")) == 10)
        await proxy.mend()
        await send(orders, range(10, 20))
        await eventually(partial(paid, orders, range(20)))
        await eventually(lambda: orders.settled("ORDERS", "shop-charge"))
        assert len(project.journal("charge")) == 20, "nothing ran again"
        assert process.running


async def test_a_runner_told_to_stop_while_there_is_no_server_stops(
    project: Project, nats_server: NatsServer, orders: RawJetStream
) -> None:
    process = await started(project, orders, nats_server.url)
    await send(orders, range(3), seconds=0.5)
    await eventually(lambda: len(project.journal("start")) == 3)
    nats_server.kill()
    process.terminate()
    await process.seen("draining")
    process.terminate()
    assert await process.ended() == 0


@pytest.mark.slow
async def test_a_killed_leader_of_replicated_streams_loses_nothing(
    project: Project, cluster: Cluster
) -> None:
    async with RawJetStream.connect(cluster.url) as js:
        await streams(js, num_replicas=3)
        process = await started(project, js, cluster.url)
        await js.api("STREAM.DELETE.DEADLETTERS")
        await send(js, range(1000, 1001), fail=True)
        await eventually(lambda: js.count("DEADLETTERS"))
        for own in ("DEADLETTERS", "JETRUNNER", "KV_jetrunner"):  # made at the start, or made again
            assert (await js.stream(own))["config"]["num_replicas"] == 3, "as safe as what they keep"
        await send(js, range(50))
        killed = await cluster.leader("ORDERS")
        killed.kill()
        await send(js, range(50, 100))
        await eventually(partial(paid, js, range(100)))
        assert process.running


async def test_a_revoked_user_ends_the_process_with_exit_3(
    project: Project, make_server: Callable[..., NatsServer]
) -> None:
    users = "authorization {{ users: [ {{user: admin, password: a}}, {{user: app, password: {0}}} ] }}"
    server = make_server(users.format("b"))
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        await streams(js)
        process = await started(project, js, server.url_as("app", "b"))
        await send(js, range(1))
        await eventually(partial(paid, js, range(1)))
        reload(server, users.format("other"))
        assert await process.ended() == 3
        assert "error: the server closed the connection for good" in process.output


async def test_a_lowered_max_payload_kills_neither_the_connection_nor_a_message(
    project: Project, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server("max_payload: 100000")
    async with RawJetStream.connect(server.url) as js:
        await streams(js)
        process = await started(project, js, server.url)
        await send(js, range(1), size=50_000)
        await eventually(partial(paid, js, range(1)))
        await eventually(lambda: js.settled("ORDERS", "shop-charge"))
        server.stop()  # one that is killed forgets its last acks
        await asyncio.to_thread(server.start, "max_payload: 10000")
        await send(js, range(1, 2), size=50_000)
        # A failure while the stream is looked at on the new connection is told to nobody: the message comes again after its ack wait.
        await eventually(lambda: js.count("DEADLETTERS"))
        letter = (await js.messages("DEADLETTERS"))[0]
        assert letter.headers["Jetrunner-Dead-Error"] == "TooLarge"
        assert letter.json()["id"] == 1
        await send(js, range(2, 3))
        await eventually(lambda: paid_ids(js, {0, 2}))
        assert process.running
        assert "closed the connection" not in process.output


async def paid_ids(js: RawJetStream, ids: set[int]) -> bool:
    return {output.json()["id"] for output in await js.messages("PAID")} == ids


async def test_a_server_without_jetstream_is_a_clear_error(project: Project, nats_server: NatsServer) -> None:
    nats_server.stop()
    plain = await asyncio.create_subprocess_exec(
        binary(), "-a", "127.0.0.1", "-p", str(nats_server.port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        process = project.start("run", "--nats-url", nats_server.url)
        assert await process.ended() == 1
        assert f"error: JetStream is not enabled at nats://127.0.0.1:{nats_server.port}" in process.output
        assert "hint: start nats-server with -js" in process.output
    finally:
        plain.kill()
        await plain.wait()


async def test_a_stream_that_is_missing_at_the_start_is_a_clear_error(
    project: Project, nats_server: NatsServer
) -> None:
    process = project.start("run", "--nats-url", nats_server.url)
    assert await process.ended() == 2
    assert "functions/orders.py" in process.output
    assert "hint:" in process.output
