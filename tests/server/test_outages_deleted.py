"""What somebody deletes under a running runner comes back, and nothing is lost, skipped or begun anew for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    from journal import note
    from runner import Context, RetryPolicy, consume

    @consume("orders.*", retry=RetryPolicy.fixed(0.05, attempts=2))
    async def charge(order: dict, ctx: Context) -> None:
        note("charge", id=order["id"], sequence=ctx.sequence, attempt=ctx.attempt)
        if order.get("fail") == "always" or (order.get("fail") == "once" and ctx.attempt == 1):
            raise ValueError("not today")
        if later := order.get("later"):
            await ctx.publish(f"orders.{later}", {"id": later}, delay=1.0)
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"orders": CHARGE}, nats=nats_server.url)


@pytest.fixture
async def orders(js: RawJetStream) -> RawJetStream:
    await js.create("ORDERS", ["orders.*"])
    return js


async def started(project: Project, js: RawJetStream, wire: str = "fast") -> RunnerProcess:
    """A runner that has started: one of our streams that is deleted before ends the start."""
    process = project.start("run", JETRUNNER_WIRE=wire)
    await process.seen("ready: ")
    await eventually(lambda: reads(js))
    return process


async def reads(js: RawJetStream) -> bool:
    return bool((await js.consumer("ORDERS", "shop-charge"))["num_waiting"])


def ids(project: Project) -> list[Any]:
    return [note["id"] for note in project.journal("charge")]


async def handled(project: Project, expected: set[Any], *, within: float = 60.0) -> list[Any]:
    """What was handled, in order, once all of it was."""
    await eventually(lambda: expected <= set(ids(project)), within=within)
    return ids(project)


async def floor(js: RawJetStream, sequence: int) -> bool:
    """Whether the runner has remembered this ack floor."""
    kept = await js.messages("KV_jetrunner", "$KV.jetrunner.floor.>")
    return any(message.body and message.json()["sequence"] == sequence for message in kept)


async def test_a_deleted_durable_goes_on_at_its_ack_floor(
    project: Project, orders: RawJetStream, wire: str
) -> None:
    process = await started(project, orders, wire)
    for number in range(40):
        await orders.publish("orders.1", {"id": number})
    await handled(project, set(range(40)))
    await eventually(partial(floor, orders, 40))
    await orders.api("CONSUMER.DELETE.ORDERS.shop-charge")
    for number in range(40, 60):
        await orders.publish("orders.1", {"id": number})
    assert sorted(await handled(project, set(range(60)))) == list(range(60)), "nothing ran again"
    assert process.running
    await process.seen("was deleted; it is created again after 40")


async def test_a_durable_deleted_while_nothing_runs_goes_on_at_its_ack_floor(
    project: Project, orders: RawJetStream
) -> None:
    process = await started(project, orders)
    for number in range(10):
        await orders.publish("orders.1", {"id": number})
    await handled(project, set(range(10)))
    await eventually(partial(floor, orders, 10))
    process.terminate()
    assert await process.ended() == 0
    await orders.api("CONSUMER.DELETE.ORDERS.shop-charge")
    await orders.publish("orders.1", {"id": 10})
    await started(project, orders)
    assert await handled(project, {10}) == list(range(11))


async def test_a_stream_made_anew_is_read_from_its_beginning(project: Project, orders: RawJetStream) -> None:
    process = await started(project, orders)
    for number in range(10):
        await orders.publish("orders.1", {"id": number})
    await handled(project, set(range(10)))
    await eventually(partial(floor, orders, 10))
    await orders.api("STREAM.DELETE.ORDERS")
    await orders.create("ORDERS", ["orders.*"])
    for letter in ("a", "b", "c"):
        await orders.publish("orders.1", {"id": letter})
    assert await handled(project, {"a", "b", "c"}) == [*range(10), "a", "b", "c"]
    assert process.running


async def test_a_deleted_dead_letter_stream_is_made_again_and_takes_every_dead_letter(
    project: Project, orders: RawJetStream, wire: str
) -> None:
    process = await started(project, orders, wire)
    await orders.publish("orders.1", {"id": 0, "fail": "always"})
    await eventually(lambda: orders.count("DEADLETTERS"))
    await orders.api("STREAM.DELETE.DEADLETTERS")
    for number in range(1, 21):
        await orders.publish("orders.1", {"id": number, "fail": "always"})

    async def buried() -> bool:
        found = await orders.messages("DEADLETTERS")
        return sorted(letter.json()["id"] for letter in found) == list(range(1, 21))

    await eventually(buried)
    await eventually(lambda: orders.settled("ORDERS", "shop-charge"))
    assert process.running
    assert "stream DEADLETTERS was deleted, and is created again" in process.output


async def test_our_own_stream_deleted_is_made_again_and_redrives_and_delays_go_on(
    project: Project, orders: RawJetStream
) -> None:
    process = await started(project, orders)
    await orders.publish("orders.1", {"id": 0, "fail": "once"})
    await handled(project, {0})
    await orders.api("STREAM.DELETE.JETRUNNER")
    await eventually(lambda: orders.consumers("JETRUNNER"))
    await orders.publish("orders.1", {"id": 1, "later": 2})
    await handled(project, {2})
    await eventually(partial(again_reads, orders))
    await orders.publish("$JETRUNNER.again.shop.charge", {"id": 3})
    await handled(project, {3})
    assert process.running


async def test_our_own_stream_is_made_again_once_the_server_has_removed_its_files(
    project: Project, orders: RawJetStream
) -> None:
    """A stream that is made while the server still removes the files of one of that name stores nothing (2.15.1)."""
    process = await started(project, orders)
    before = datetime.now(UTC)
    await orders.api("STREAM.DELETE.JETRUNNER")
    there = await eventually(lambda: orders.stream("JETRUNNER"))
    made = datetime.fromisoformat(there["created"])
    assert made - before >= timedelta(seconds=0.3)
    assert process.running


async def test_our_own_stream_that_cannot_be_made_again_is_tried_less_and_less_often_until_it_can(
    project: Project, orders: RawJetStream
) -> None:
    process = await started(project, orders)
    config = (await orders.stream("JETRUNNER"))["config"]
    await orders.api(
        "STREAM.UPDATE.JETRUNNER", config | {"subjects": ["$JETRUNNER.again.>", "$JETRUNNER.delayed.>"]}
    )
    await orders.create("BLOCKS", ["$JETRUNNER.due.>"])
    tries: list[float] = []

    async def tried(_: Msg) -> None:
        tries.append(time.monotonic())

    await orders.client.subscribe("$JS.API.STREAM.CREATE.JETRUNNER", cb=tried)
    await orders.api("STREAM.DELETE.JETRUNNER")
    await eventually(lambda: len(tries) >= 8)  # the relay and the function try, each for itself
    assert tries[7] - tries[0] > 0.1 * (2**3 - 1)
    assert sum("relay: stream JETRUNNER cannot be created" in line for line in process.stderr) == 1
    await orders.api("STREAM.DELETE.BLOCKS")
    await eventually(partial(again_reads, orders))
    await orders.publish("orders.1", {"id": 1, "later": 2})
    await handled(project, {1, 2})
    assert process.running


async def again_reads(js: RawJetStream) -> bool:
    return bool((await js.consumer("JETRUNNER", "shop-charge"))["num_waiting"])


async def test_our_bucket_deleted_is_made_again_and_retries_go_on(
    project: Project, orders: RawJetStream
) -> None:
    process = await started(project, orders)
    await orders.publish("orders.1", {"id": 0, "fail": "once"})
    await handled(project, {0})
    await orders.api("STREAM.DELETE.KV_jetrunner")
    for number in range(1, 6):
        await orders.publish("orders.1", {"id": number, "fail": "once"})
    await eventually(lambda: len(project.journal("charge")) == 12)
    await eventually(lambda: orders.settled("ORDERS", "shop-charge"))
    assert await orders.count("DEADLETTERS") == 0
    assert process.running
