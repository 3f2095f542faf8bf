"""Fences on a real server: an owner that has lost its shard cannot store an output, and nobody else is held up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FENCE = "_jetrunner.PAID.shop.charge.0.0"
MINUTES = 60 * 10**9
HEAD = """
import asyncio
from pathlib import Path
from msgspec import Struct
from journal import note
from runner import Context, RetryPolicy, consume

class Order(Struct):
    id: int

def gate(name):
    return Path(__file__).parent.parent / name

async def opened(name):
    while not gate(name).exists():
        await asyncio.sleep(0.01)

"""
CLAIM = "$KV.jetrunner.claim.shop.charge.0.0"
CHARGE = """
@consume("orders.{customer}", output="paid.{customer}", ordered_by="customer", concurrency=16, timeout=60.0)
async def charge(order: Order, ctx: Context) -> dict:
    note("run", id=order.id, instance=instance)
    if order.id == 1 and gate("hold-" + instance).exists():
        note("held")
        await opened("go")
    note("end", id=order.id, instance=instance)
    return {"id": order.id, "instance": instance}
"""


@pytest.fixture
async def shop(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    """Streams `ORDERS`, `PAID` and `AUDIT`, the last two with room for fences, and no function yet."""
    for name, subject in (("ORDERS", "orders.>"), ("PAID", "paid.>"), ("AUDIT", "audit.>")):
        fences = [] if name == "ORDERS" else [f"_jetrunner.{name}.>"]
        await create(js, name, [subject, *fences])
    return make_project(nats=nats_server.url)


async def create(js: RawJetStream, name: str, subjects: list[str], **fields: Any) -> None:
    given = {"allow_atomic": True, "allow_direct": True, "duplicate_window": 15 * MINUTES}
    await js.create(name, subjects, **{**given, **fields})


def write(project: Project, source: str) -> None:
    project.function("shop", HEAD + 'import os\ninstance = os.environ["INSTANCE"]\n' + source)


async def running(
    project: Project, js: RawJetStream, instance: str = "one", function: str = "charge"
) -> RunnerProcess:
    """An instance that has the one shard, or waits for it."""
    process = project.start("run", INSTANCE=instance)
    durable = f"shop-{function}-0-0"
    await eventually(lambda: pulled(js, durable) if process.running else fail(process))
    return process


async def pulled(js: RawJetStream, durable: str) -> bool:
    return int((await js.consumer("ORDERS", durable))["num_waiting"]) > 0


def fail(process: RunnerProcess) -> bool:
    raise AssertionError(f"the runner ended with {process.code}:\n{process.output}")


async def order(js: RawJetStream, *numbers: int, customers: int = 4) -> None:
    for number in numbers:
        await js.publish(f"orders.c{number % customers}", {"id": number})


async def outputs(js: RawJetStream, stream: str = "PAID") -> list[Stored]:
    return [each for each in await js.messages(stream) if not each.subject.startswith("_jetrunner.")]


async def settled(js: RawJetStream, function: str = "charge", *, within: float = 60.0) -> None:
    await eventually(lambda: js.settled("ORDERS", f"shop-{function}-0-0"), within=within)


async def test_every_output_of_an_ordered_function_names_the_fence(shop: Project, js: RawJetStream) -> None:
    write(shop, CHARGE)
    await running(shop, js)
    await order(js, *range(1, 9))
    await settled(js)
    (fence,) = await js.messages("PAID", FENCE)
    assert fence.json()["epoch"] == 1
    stored = await outputs(js)
    assert sorted(each.json()["id"] for each in stored) == list(range(1, 9))
    for each in stored:
        assert each.sequence > fence.sequence
        assert each.headers["Nats-Expected-Last-Subject-Sequence"] == str(fence.sequence)
        assert each.headers["Nats-Expected-Last-Subject-Sequence-Subject"] == FENCE


async def test_each_owner_writes_the_fence_anew_before_there_is_anything_to_do(
    shop: Project, js: RawJetStream
) -> None:
    write(shop, CHARGE)
    for epoch in (1, 2):
        process = await running(shop, js)
        fences = await js.messages("PAID", FENCE)
        assert [fence.json()["epoch"] for fence in fences] == list(range(1, epoch + 1))
        process.terminate()
        assert await process.ended() == 0


async def test_a_frozen_owners_late_output_is_refused_and_it_stops_by_itself(
    shop: Project, js: RawJetStream
) -> None:
    write(shop, CHARGE)
    (shop.root / "hold-one").touch()
    one = await running(shop, js)
    await order(js, *range(1, 9))
    await eventually(lambda: shop.journal("held"))
    one.freeze()
    two = shop.start("run", INSTANCE="two")
    await eventually(lambda: js.settled("ORDERS", "shop-charge-0-0") if two.running else fail(two))
    (shop.root / "go").touch()
    one.thaw()
    await one.seen("another instance owns the shard")
    await order(js, *range(9, 41))
    await settled(js)
    stored = await outputs(js)
    assert sorted(each.json()["id"] for each in stored) == list(range(1, 41))
    assert [each.json()["instance"] for each in stored if each.json()["id"] == 1] == ["two"]
    (_, second) = await js.messages("PAID", FENCE)
    assert all(each.json()["instance"] == "two" for each in stored if each.sequence > second.sequence)
    for process in (one, two):
        process.terminate()
        assert await process.ended() == 0


DEAF = """
authorization {
  users: [
    { user: all, password: x }
    { user: deaf, password: x, permissions: { subscribe: { deny: ["$KV.jetrunner.claim.>"] } } }
  ]
}
no_auth_user: all
"""


async def test_an_owner_that_was_not_told_of_its_loss_learns_it_from_its_first_refused_output(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> None:
    server = make_server(DEAF)
    async with RawJetStream.connect(server.url) as js:
        await create(js, "ORDERS", ["orders.>"])
        await create(js, "PAID", ["paid.>", "_jetrunner.PAID.>"])
        shop = make_project(nats=server.url_as("deaf", "x"))
        write(shop, CHARGE)
        (shop.root / "hold-one").touch()
        one = await running(shop, js)
        await order(js, 1)
        await eventually(lambda: shop.journal("held"))
        (claim,) = await js.messages("KV_jetrunner", CLAIM)
        other = {"owner": "other", "epoch": claim.json()["epoch"] + 1, "since": 0.0}
        await js.publish(CLAIM, other)
        await js.publish(FENCE, other)
        (shop.root / "go").touch()
        await one.seen("is refused: another instance owns the shard")
        # The other is nobody that lives: the shard is free, and the message runs again under the next fence.
        await settled(js)
        (stored,) = await outputs(js)
        (_, _, fence) = await js.messages("PAID", FENCE)
        assert stored.headers["Nats-Expected-Last-Subject-Sequence"] == str(fence.sequence)
        assert fence.json()["epoch"] == claim.json()["epoch"] + 2
        assert len(shop.journal("run")) == 2


@pytest.mark.parametrize("how", ["taken by the limits", "written by a stranger"])
async def test_who_holds_the_claim_writes_the_fence_again(shop: Project, js: RawJetStream, how: str) -> None:
    write(shop, CHARGE)
    await running(shop, js)
    await order(js, *range(1, 9))
    await settled(js)
    (before,) = await js.messages("PAID", FENCE)
    if how == "taken by the limits":
        await js.api("STREAM.PURGE.PAID", {"filter": FENCE})
    else:
        await js.publish(FENCE, "what is this?")
    await order(js, *range(9, 101))
    await settled(js)
    after = (await js.messages("PAID", FENCE))[-1]
    assert after.json() == before.json()
    assert after.sequence > before.sequence
    assert sorted(each.json()["id"] for each in await outputs(js)) == list(range(1, 101))
    assert len(shop.journal("run")) == 100


async def test_another_stream_gets_its_fence_with_the_first_output_there(
    shop: Project, js: RawJetStream
) -> None:
    await create(js, "FOREIGN", ["foreign.>"])
    write(
        shop,
        """
        @consume("orders.{customer}", output="paid.{customer}", ordered_by="customer")
        async def charge(order: Order, ctx: Context):
            await ctx.publish("audit.a", order)
            await ctx.publish("audit.b", order)
            await ctx.publish("foreign.a", order)
            for part in range(order.id):
                yield part
        """.replace("\n        ", "\n"),
    )
    await running(shop, js)
    assert len(await js.messages("PAID", FENCE)) == 1
    assert await js.count("AUDIT") == 0
    await order(js, 1, 2, 3)
    await settled(js)
    (fence,) = await js.messages("AUDIT", "_jetrunner.AUDIT.>")
    assert fence.subject == "_jetrunner.AUDIT.shop.charge.0.0"
    audit = await outputs(js, "AUDIT")
    assert [each.subject for each in audit] == ["audit.a", "audit.b"] * 3
    # The first of a batch stands for all of it.
    expected = [each.headers.get("Nats-Expected-Last-Subject-Sequence") for each in audit]
    assert expected == [str(fence.sequence), None] * 3
    parts = [(each.subject, each.json()) for each in await outputs(js)]
    for number in (1, 2, 3):  # each has a key of its own, and keys keep no order among each other
        assert [part for subject, part in parts if subject == f"paid.c{number}"] == [*range(number)]
    assert len(parts) == 6
    foreign = await outputs(js, "FOREIGN")
    assert len(foreign) == 3
    assert not any("Nats-Expected-Last-Subject-Sequence" in each.headers for each in foreign)


@pytest.mark.parametrize("fenced", [True, False])
async def test_a_stream_made_anew_gets_its_fence_and_every_output(
    shop: Project, js: RawJetStream, fenced: bool
) -> None:
    write(shop, CHARGE)
    await running(shop, js)
    await order(js, 1, 2)
    await settled(js)
    await js.api("STREAM.DELETE.PAID")
    await order(js, *range(3, 21))
    await create(js, "PAID", ["paid.>", "_jetrunner.PAID.>"] if fenced else ["paid.>"])
    await settled(js)
    assert sorted(each.json()["id"] for each in await outputs(js)) == list(range(3, 21))
    assert len(await js.messages("PAID", FENCE)) == (1 if fenced else 0)
