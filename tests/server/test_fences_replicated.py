"""Fences in a stream of three replicas: one write in flight, and what queues meanwhile goes as one batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest

from tests.server.test_fences import CHARGE, FENCE, create, order, outputs, running, settled, write
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.project import Project

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
async def js3(cluster: Cluster) -> AsyncIterator[RawJetStream]:
    """A connection to the cluster, with R3 streams `ORDERS` and `PAID`."""
    async with RawJetStream.connect(cluster.url) as raw:
        await create(raw, "ORDERS", ["orders.>"], num_replicas=3)
        await create(raw, "PAID", ["paid.>", "_jetrunner.PAID.>"], num_replicas=3)
        yield raw


@pytest.fixture
def shop3(cluster: Cluster, make_project: Callable[..., Project]) -> Project:
    """A project on the cluster."""
    return make_project(nats=cluster.url)


async def test_outputs_queue_into_batches_and_one_that_stands_already_holds_up_no_other(
    shop3: Project, js3: RawJetStream
) -> None:
    write(shop3, CHARGE.replace("concurrency=16", "concurrency=64"))
    await order(js3, *range(1, 201), customers=100)
    for number in (5, 50, 51):  # as a predecessor leaves them that died before its ack
        await js3.publish("paid.x", {"id": number}, {"Nats-Msg-Id": await output_id(js3, number)})
    await running(shop3, js3)
    await settled(js3)
    stored = await outputs(js3)
    assert sorted(each.json()["id"] for each in stored) == list(range(1, 201))
    assert sum(each.subject == "paid.x" for each in stored) == 3
    assert any("Nats-Batch-Id" in each.headers for each in stored)
    for customer in range(100):
        mine = [each.json()["id"] for each in stored if each.subject == f"paid.c{customer}"]
        assert mine == sorted(mine)
    (fence,) = await js3.messages("PAID", FENCE)
    alone = [
        each for each in stored if each.sequence > fence.sequence and "Nats-Batch-Id" not in each.headers
    ]
    assert {each.headers["Nats-Expected-Last-Subject-Sequence"] for each in alone} == {str(fence.sequence)}


async def test_owners_that_are_killed_and_fences_that_are_taken_lose_no_output(
    shop3: Project, js3: RawJetStream
) -> None:
    write(shop3, CHARGE)
    for turn in range(3):
        process = await running(shop3, js3)
        await order(js3, *range(turn * 100 + 1, turn * 100 + 101), customers=30)
        await js3.api("STREAM.PURGE.PAID", {"filter": FENCE})
        if turn < 2:
            process.kill()
    await settled(js3)
    stored = await outputs(js3)
    assert sorted(each.json()["id"] for each in stored) == list(range(1, 301))
    process.terminate()
    assert await process.ended() == 0


async def output_id(js: RawJetStream, sequence: int) -> str:
    """The Msg-Id of the first output that `charge` makes of an order."""
    message: Stored = await eventually(lambda: js.message("ORDERS", sequence))
    seconds = datetime.fromisoformat(message.time[:19] + "+00:00").timestamp()
    fraction = message.time[20:].rstrip("Z").ljust(9, "0")
    return f"ORDERS:{sequence}.{int(seconds)}{fraction}:shop-charge:0"


async def test_outputs_whose_subject_was_moved_to_another_stream_follow_it(
    shop3: Project, js3: RawJetStream
) -> None:
    write(shop3, CHARGE)
    await order(js3, *range(1, 11), customers=5)
    await running(shop3, js3)
    await settled(js3)
    config = (await js3.stream("PAID"))["config"]
    await js3.api("STREAM.UPDATE.PAID", config | {"subjects": ["_jetrunner.PAID.>"]})
    await create(js3, "OTHER", ["paid.>", "_jetrunner.OTHER.>"], num_replicas=3)
    await order(js3, *range(11, 61), customers=5)
    await settled(js3)
    moved = await js3.messages("OTHER", "paid.>")
    assert sorted(each.json()["id"] for each in moved) == list(range(11, 61))
    assert len(await js3.messages("OTHER", "_jetrunner.>")) == 1
    for customer in range(5):
        mine = [each.json()["id"] for each in moved if each.subject == f"paid.c{customer}"]
        assert mine == sorted(mine)


PARTS = """
@consume("orders.{customer}", output="paid.{customer}", ordered_by="customer", concurrency=64)
async def charge(order: Order):
    note("run", id=order.id)
    for part in range(3):
        yield {"id": order.id, "part": part}
"""


async def test_outputs_of_a_run_of_which_one_stands_already_are_completed_in_order(
    shop3: Project, js3: RawJetStream
) -> None:
    write(shop3, PARTS)
    await order(js3, *range(1, 101), customers=50)
    for number, part in ((5, 0), (6, 1), (50, 2)):
        found = (await output_id(js3, number)).removesuffix("0") + str(part)
        await js3.publish("paid.x", {"id": number, "part": part}, {"Nats-Msg-Id": found})
    await running(shop3, js3)
    await settled(js3)
    stored = [each.json() for each in await outputs(js3)]
    assert sorted((each["id"], each["part"]) for each in stored) == [
        (number, part) for number in range(1, 101) for part in range(3)
    ]
    for number in (1, 5, 7, 100):  # of 6 and 50 a later part stood before the others
        assert [each["part"] for each in stored if each["id"] == number] == [0, 1, 2]
    assert len(shop3.journal("run")) == 100
