"""What the server refuses: a full stream is waited for, a missing permission is told, and no message is lost."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    from journal import note
    from runner import Context, Reject, RetryPolicy, consume

    @consume("orders.*", output="paid.all", retry=RetryPolicy.fixed(0.05, attempts=2))
    async def charge(order: dict, ctx: Context) -> dict:
        note("charge", id=order["id"], attempt=ctx.attempt)
        if order.get("fail") == "once" and ctx.attempt == 1:
            raise ValueError("not yet")
        if order.get("fail") == "always":
            raise Reject("no")
        return order
"""
SIMPLE = """
    from journal import note
    from runner import consume

    @consume("orders.*", output="paid.all", concurrency=4)
    async def charge(order: dict) -> dict:
        note("charge", id=order["id"])
        return order
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"orders": CHARGE}, nats=nats_server.url)


async def started(project: Project, js: RawJetStream, **environment: str) -> RunnerProcess:
    """A runner whose durables stand."""
    process = project.start("run", **environment)

    async def stands() -> bool:
        return not process.running or bool(await js.consumer("ORDERS", "shop-charge"))

    await eventually(stands)
    assert process.running, process.output
    return process


def ids(project: Project) -> list[Any]:
    return sorted(note["id"] for note in project.journal("charge"))


async def outputs(js: RawJetStream, expected: Collection[Any]) -> bool:
    """Whether exactly these outputs stand, each once."""
    return sorted(output.json()["id"] for output in await js.messages("PAID")) == sorted(expected)


@pytest.mark.parametrize("source", [CHARGE, SIMPLE], ids=["context", "body-alone"])
async def test_a_full_output_stream_is_waited_for_and_no_handler_runs_again(
    project: Project, js: RawJetStream, source: str, wire: str
) -> None:
    project.function("orders", source)
    await js.create("ORDERS", ["orders.*"])
    await js.create("PAID", ["paid.*"], discard="new", max_msgs=5)
    process = await started(project, js, JETRUNNER_WIRE=wire)
    for number in range(20):
        await js.publish("orders.1", {"id": number})
    await process.seen(
        r"warning .*a message to paid\.all: no success for \d+ s yet: maximum messages exceeded"
    )
    assert await js.count("PAID") == 5
    assert not await js.settled("ORDERS", "shop-charge")
    config = (await js.stream("PAID"))["config"]
    await js.api("STREAM.UPDATE.PAID", config | {"max_msgs": 100})
    await eventually(partial(outputs, js, range(20)))
    await eventually(partial(js.settled, "ORDERS", "shop-charge"))
    assert ids(project) == list(range(20))
    assert await js.count("DEADLETTERS") == 0


async def one_is_left(js: RawJetStream) -> bool:
    """Whether a single message waits for its settlement, and no other for its delivery."""
    info = await js.consumer("ORDERS", "shop-charge")
    return bool(info["num_ack_pending"] == 1 and info["num_pending"] == 0)


def users(denied: str) -> str:
    """An administrator, and an app that may not publish to these subjects."""
    return (
        "authorization { users: [ {user: admin, password: a}, "
        f"{{user: app, password: b, permissions: {{ publish: {{ deny: [{denied}] }} }} }} ] }}"
    )


class Refused:
    """A project that connects as `app`, and the server that refuses it something."""

    def __init__(self, server: NatsServer, project: Project) -> None:
        self.server = server
        self.project = project

    def allow(self) -> None:
        """Give the app every permission from now on; the connection is cut, since users are re-read so."""
        self.server.stop()
        self.server.start(users('"nothing"'))


@pytest.fixture
def refused(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> Callable[[str], Refused]:
    def refused(denied: str) -> Refused:
        server = make_server(users('"nothing"'))
        project = make_project(functions={"orders": CHARGE}, nats=server.url_as("app", "b"))
        project.environment["NATS_URL"] = server.url_as("app", "b")
        server.stop()
        server.start(users(denied))
        return Refused(server, project)

    return refused


async def test_a_missing_permission_for_the_output_is_the_handlers_failure_and_told(
    refused: Callable[[str], Refused],
) -> None:
    world = refused('"paid.>"')
    async with RawJetStream.connect(world.server.url_as("admin", "a")) as js:
        await js.create("ORDERS", ["orders.*"])
        await js.create("PAID", ["paid.*"])
        process = await started(world.project, js)
        await js.publish("orders.1", {"id": 1})
        await eventually(lambda: js.count("DEADLETTERS"))
        letter = (await js.messages("DEADLETTERS"))[0]
        assert letter.headers["Jetrunner-Dead-Reason"] == "exhausted"
        assert letter.headers["Jetrunner-Dead-Error"] == "PermissionDenied"
        assert "do not allow to publish to paid.all" in letter.headers["Jetrunner-Dead-Message"]
        assert [note["attempt"] for note in world.project.journal("charge")] == [1, 2]
        assert process.running


async def test_a_missing_permission_for_dead_letters_is_told_and_the_message_stays(
    refused: Callable[[str], Refused],
) -> None:
    world = refused('"deadletters.>"')
    async with RawJetStream.connect(world.server.url_as("admin", "a")) as js:
        await js.create("ORDERS", ["orders.*"])
        await js.create("PAID", ["paid.*"])
        process = await started(world.project, js)
        await js.publish("orders.1", {"id": 1, "fail": "always"})
        await process.seen(
            r"error .*ORDERS:1 cannot be stored as a dead letter: the credentials do not allow to publish to "
            r"deadletters\.shop\.charge"
        )
        await js.publish("orders.1", {"id": 2})
        await eventually(partial(outputs, js, [2]))
        await eventually(partial(one_is_left, js))
        assert process.running


async def test_without_the_permission_to_pull_it_tells_and_goes_on_once_it_has_it(
    refused: Callable[[str], Refused],
) -> None:
    world = refused('"$JS.API.CONSUMER.MSG.NEXT.>"')
    async with RawJetStream.connect(world.server.url_as("admin", "a")) as js:
        await js.create("ORDERS", ["orders.*"])
        await js.create("PAID", ["paid.*"])
        await js.publish("orders.1", {"id": 1})
        process = await started(world.project, js)
        await process.seen(r'permissions violation for publish to ".js\.api\.consumer\.msg\.next\.orders')
        world.allow()
        await eventually(partial(outputs, js, [1]))
        assert process.running


READS = '"$JS.API.DIRECT.GET.*.*.jetrunner.start.>", "$JS.API.STREAM.MSG.GET.KV_jetrunner"'


@pytest.mark.parametrize("denied", [READS, '"$KV.jetrunner.start.>"'], ids=["reads", "writes"])
async def test_without_its_bucket_a_retry_waits_and_everything_else_goes_on(
    refused: Callable[[str], Refused], denied: str
) -> None:
    world = refused(denied)
    async with RawJetStream.connect(world.server.url_as("admin", "a")) as js:
        await js.create("ORDERS", ["orders.*"])
        await js.create("PAID", ["paid.*"])
        process = await started(world.project, js)
        await js.publish("orders.1", {"id": 1, "fail": "once"})
        await process.seen(r"error .*charge: ORDERS:1 could not be settled: .*do not allow to publish to")
        await js.publish("orders.1", {"id": 2})
        await eventually(partial(outputs, js, [2]))
        await eventually(partial(one_is_left, js))
        assert process.running


async def test_without_the_permission_to_purge_a_retry_is_no_suspect_for_ever(
    refused: Callable[[str], Refused],
) -> None:
    world = refused('"$JS.API.STREAM.PURGE.>"')
    async with RawJetStream.connect(world.server.url_as("admin", "a")) as js:
        await js.create("ORDERS", ["orders.*"])
        await js.create("PAID", ["paid.*"])
        process = await started(world.project, js)
        await js.publish("orders.1", {"id": 1, "fail": "once"})
        await eventually(partial(outputs, js, [1]))
        await eventually(partial(js.settled, "ORDERS", "shop-charge"))

        async def nothing_is_held_against_it() -> bool:
            (record,) = await js.messages("KV_jetrunner", "$KV.jetrunner.start.>")
            return bool(record.json()["starts"] == [])

        await eventually(nothing_is_held_against_it)
        assert "could not be settled" not in process.output


async def test_own_streams_that_stand_need_no_permission_to_create_them(
    refused: Callable[[str], Refused],
) -> None:
    world = refused('"nothing"')
    async with RawJetStream.connect(world.server.url_as("admin", "a")) as js:
        await js.create("ORDERS", ["orders.*"])
        await js.create("PAID", ["paid.*"])
        process = await started(world.project, js)
        process.terminate()
        assert await process.ended() == 0
        world.server.stop()
        world.server.start(users('"$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>"'))
        process = await started(world.project, js)
        await js.publish("orders.1", {"id": 1})
        await eventually(partial(outputs, js, [1]))
