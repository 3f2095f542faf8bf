"""What an instance has to say of a message late, after a lost connection or a long pause, hurts no other instance's work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.proxy import Proxy
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.slow]

TWO_INSTANCES = """
    from pathlib import Path

    async def until(name: str) -> None:
        while not Path(name).exists():
            await asyncio.sleep(0.01)

    @consume("orders.{id}", timeout=600, retry=RetryPolicy.fixed(0, attempts=5))
    async def charge(order: Order, ctx: Context) -> None:
        role = os.environ["ROLE"]
        note("begin", id=order.id, role=role, attempt=ctx.attempt)
        if order.id > 1:
            return
        if role == "first":
            await until("fail")
            note("fails")
            raise ValueError("told late")
        await until("finish")
"""


async def said(shop: Shop, instances: int) -> None:
    """Return once that many instances have answered a question: all that each wrote before has been heard."""
    answers: list[Any] = []

    async def answered(message: Any) -> None:
        answers.append(json.loads(message.data))

    inbox = shop.js.client.new_inbox()
    await shop.js.client.subscribe(inbox, cb=answered)

    async def all_answer() -> bool:  # one that connects again just now does not hear the question
        await shop.js.client.publish("jetrunner.shop.status", b"", reply=inbox)
        return len({answer["instance"] for answer in answers}) == instances

    await eventually(all_answer)


async def seen_to_be_left_alone(shop: Shop, first: RunnerProcess, second: RunnerProcess) -> None:
    """The first instance has failed, late; the message stays with the second, and ends there."""
    await first.seen("told late")
    await said(shop, 2)
    await shop.order(2)  # delivered behind whatever was asked for again
    await eventually(lambda: [each for each in shop.notes("begin") if each["id"] == 2])
    begun = [(each["role"], each["attempt"]) for each in shop.notes("begin") if each["id"] == 1]
    # A frozen connection may have swallowed a delivery in between.
    deliveries = begun[1][1]
    assert begun == [("first", 1), ("second", deliveries)]
    assert (await shop.js.consumer("ORDERS", "shop-charge"))["delivered"]["consumer_seq"] == deliveries + 1
    (shop.project.root / "finish").touch()
    await shop.settled("charge")
    assert len(shop.notes("begin")) == 3
    assert first.running
    assert second.running


@pytest.mark.parametrize("wire", ["fast", "plain"])
@pytest.mark.parametrize("fails", ["while it is cut off", "once it is back"])
async def test_a_failure_after_a_lost_connection_leaves_the_message_to_whoever_works_on_it(
    shop: Shop, nats_server: NatsServer, fails: str, wire: str
) -> None:
    await shop.open(TWO_INSTANCES)
    async with Proxy.to(nats_server.port) as proxy:
        first = shop.run(NATS_URL=proxy.url, ROLE="first", JETRUNNER_WIRE=wire)
        await first.seen("ready:")
        await shop.order(1)
        await shop.noted("begin")
        await proxy.cut(refuse=True)
        await first.seen("lost; reconnecting")
        second = shop.run(ROLE="second", JETRUNNER_WIRE=wire)
        await shop.noted("begin", 2)
        if fails == "while it is cut off":
            (shop.project.root / "fail").touch()
            await shop.noted("fails")
        await proxy.mend()
        await first.seen("connected again")
        (shop.project.root / "fail").touch()
        await seen_to_be_left_alone(shop, first, second)


async def test_a_failure_after_a_freeze_leaves_the_message_to_whoever_works_on_it(shop: Shop) -> None:
    await shop.open(TWO_INSTANCES)
    first = shop.run(ROLE="first")
    await first.seen("ready:")
    await shop.order(1)
    await shop.noted("begin")
    second = shop.run(ROLE="second")
    await second.seen("ready:")
    first.freeze()
    await shop.noted("begin", 2)
    (shop.project.root / "fail").touch()
    first.thaw()
    await seen_to_be_left_alone(shop, first, second)


async def test_a_failure_after_a_half_open_connection_leaves_the_message_to_whoever_works_on_it(
    shop: Shop, nats_server: NatsServer
) -> None:
    """The first instance goes on to extend its lease, into a connection that takes it all and passes nothing on."""
    await shop.open(TWO_INSTANCES)
    async with Proxy.to(nats_server.port) as proxy:
        first = shop.run(NATS_URL=proxy.url, ROLE="first")
        await first.seen("ready:")
        await shop.order(1)
        await shop.noted("begin")
        proxy.freeze()
        second = shop.run(ROLE="second")
        await shop.noted("begin", 2)
        await first.seen("lost; reconnecting")
        await proxy.cut()  # what the old connection still held never arrives
        await proxy.mend()
        await first.seen("connected again")
        (shop.project.root / "fail").touch()
        await seen_to_be_left_alone(shop, first, second)


async def test_a_failure_that_was_not_told_comes_again_by_itself(shop: Shop, nats_server: NatsServer) -> None:
    """With no other instance: the message that was not given back in words is delivered again all the same, and once."""
    await shop.open(TWO_INSTANCES)
    async with Proxy.to(nats_server.port) as proxy:
        first = shop.run(NATS_URL=proxy.url, ROLE="first")
        await first.seen("ready:")
        await shop.order(1)
        await shop.noted("begin")
        await proxy.cut(refuse=True)
        await first.seen("lost; reconnecting")
        (shop.project.root / "fail").touch()
        await shop.noted("fails")
        await first.seen("told late")
        await proxy.mend()
        await shop.noted("begin", 2)
        assert [each["attempt"] for each in shop.notes("begin")][:2] == [1, 2]
        await shop.dead_letter()
        await shop.settled("charge")
        assert len(shop.notes("begin")) == 5
        await eventually(lambda: shop.pulling("charge"))


ORDERED = """
    from pathlib import Path

    async def until(name: str) -> None:
        while not Path(name).exists():
            await asyncio.sleep(0.01)

    @consume("orders.{key}", ordered_by="key", timeout=600)
    async def charge(order: Order, key: str, ctx: Context) -> None:
        role = os.environ["ROLE"]
        note("begin", id=order.id, role=role)
        try:
            if order.id == 1:
                await until(role)
        except asyncio.CancelledError:
            note("cancelled", role=role)
            await until(role)  # a handler that ends in its own time
        note("end", id=order.id, role=role)
"""


@pytest.mark.parametrize("wire", ["fast", "plain"])
@pytest.mark.parametrize("ends", ["while it is cut off", "once it is back"])
async def test_an_owner_that_lost_its_shard_acknowledges_nothing_that_the_next_has_in_work(
    shop: Shop, nats_server: NatsServer, ends: str, wire: str
) -> None:
    await shop.open(ORDERED)
    async with Proxy.to(nats_server.port) as proxy:
        first = shop.run(NATS_URL=proxy.url, ROLE="first", JETRUNNER_WIRE=wire)
        await first.seen("ready:")
        await shop.order(1)
        await shop.noted("begin")
        await proxy.cut(refuse=True)
        await first.seen("lost; reconnecting")
        second = shop.run(ROLE="second", JETRUNNER_WIRE=wire)
        await shop.noted("begin", 2)
        if ends == "while it is cut off":
            (shop.project.root / "first").touch()
            await shop.noted("end")
        await proxy.mend()
        await first.seen("connected again")
        (shop.project.root / "first").touch()
        await shop.noted("end")
        await said(shop, 2)
        info = await shop.js.consumer("ORDERS", "shop-charge-0-0")
        assert info["num_ack_pending"] == 1, "it is the second's to acknowledge"
        await shop.order(2)
        (shop.project.root / "second").touch()
        await eventually(lambda: [each for each in shop.notes("end") if each["id"] == 2])
        begun = [(each["id"], each["role"]) for each in shop.notes("begin")]
        assert begun[:2] == [(1, "first"), (1, "second")]
        assert len(begun) == 3
        assert first.running
        assert second.running


async def test_a_handler_that_outlasts_its_shard_still_runs_in_this_process(
    shop: Shop, nats_server: NatsServer
) -> None:
    """Nothing is alone beside it: a suspect must not be blamed for what it does."""
    remembered = """
    from runner.runtime.quarantine import Quarantine

    quarantines, init = [], Quarantine.__init__

    def remember(quarantine):
        quarantines.append(quarantine)
        init(quarantine)

    Quarantine.__init__ = remember
"""
    counted = 'note("cancelled", role=role, running=quarantines[0].running, crowded=quarantines[0].crowded)'
    await shop.open(remembered + ORDERED.replace('note("cancelled", role=role)', counted))
    async with Proxy.to(nats_server.port) as proxy:
        first = shop.run(NATS_URL=proxy.url, ROLE="first")
        await first.seen("ready:")
        await shop.order(1)
        await shop.noted("begin")
        await proxy.cut(refuse=True)
        await first.seen("lost; reconnecting")
        shop.run(ROLE="second")
        await shop.noted("begin", 2)
        await proxy.mend()
        (note,) = await shop.noted("cancelled")
        assert (note["role"], note["running"], note["crowded"]) == ("first", 1, True)
