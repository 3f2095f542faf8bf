"""One run's outputs stand once in each stream, together, whatever is retried, killed or redelivered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from nats.aio.msg import Msg

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@asynccontextmanager
async def acks_lost(shop: Shop, function: str) -> AsyncIterator[RunnerProcess]:
    """Run the block with outputs stored and inputs never acknowledged, then as if the process had died there.

    The server refuses what is published to the durable's ack subjects, so every output is stored and no input settled.
    """
    process = await shop.running(function, NATS_URL=shop.url.replace("nats://", "nats://mute:x@"))
    try:
        yield process
    finally:
        process.kill()


MUTE = """
authorization {
  users: [
    { user: all, password: x }
    { user: mute, password: x, permissions: { publish: { deny: ["$JS.ACK.>"] } } }
  ]
}
no_auth_user: all
"""


@pytest.fixture
def deaf(shop: Shop, nats_server: NatsServer) -> Shop:
    """A shop whose server can lose the acks of the user `mute`."""
    nats_server.stop()
    nats_server.start(MUTE)
    return shop


async def test_an_output_stands_once_when_the_process_dies_before_the_ack(deaf: Shop) -> None:
    await deaf.open("""
        @consume("orders.{id}", output="paid.{id}")
        async def charge(order: Order) -> Order:
            return order
    """)
    async with acks_lost(deaf, "charge"):
        await deaf.order(1, 2, 3)
        await eventually(lambda: _count(deaf, "PAID", 3))
    assert await deaf.in_work("charge") == 3
    await deaf.give_back("charge")
    deaf.run()
    await deaf.settled("charge")
    stored = await deaf.js.messages("PAID")
    assert [(each.subject, each.json()["id"]) for each in stored] == [
        (f"paid.{number}", number) for number in (1, 2, 3)
    ]
    assert len({each.headers["Nats-Msg-Id"] for each in stored}) == 3


async def test_the_outputs_of_a_batch_stand_once_though_its_messages_come_again_one_by_one(
    deaf: Shop,
) -> None:
    await deaf.open("""
        @consume("orders.{id}", output="paid.{id}", batch=4, linger=0.2)
        async def charge(orders: list[Order], ctx: Context) -> list[Order]:
            note("run", ids=[order.id for order in orders])
            for order, each in zip(orders, ctx.messages):
                each.publish(f"audit.{order.id}", {"id": order.id})
            return orders
    """)
    async with acks_lost(deaf, "charge"):
        await deaf.order(*range(1, 9))
        await eventually(lambda: _count(deaf, "PAID", 8))
    assert any(len(each["ids"]) > 1 for each in deaf.notes("run"))
    await deaf.give_back("charge")
    deaf.run()
    await deaf.settled("charge")
    assert {len(each["ids"]) for each in deaf.notes("run")[-8:]} == {1}
    for stream in ("PAID", "AUDIT"):
        stored = await deaf.js.messages(stream)
        assert sorted(each.json()["id"] for each in stored) == [*range(1, 9)]


@pytest.mark.parametrize("items", [1, 3, 1000, 1001])
async def test_a_generators_items_stand_once_and_in_order_after_a_kill_before_the_ack(
    deaf: Shop, items: int
) -> None:
    await deaf.open("""
        @consume("orders.{id}", output="paid.{id}")
        async def split(order: Order):
            note("run")
            for part in range(int(order.note)):
                yield {"part": part}
    """)
    async with acks_lost(deaf, "split"):
        await deaf.order(1, note=str(items))
        await eventually(lambda: _count(deaf, "PAID", items))
    assert await deaf.in_work("split") == 1
    await deaf.give_back("split")
    deaf.run()
    await deaf.settled("split")
    assert len(deaf.notes("run")) == 2
    assert await deaf.js.count("PAID") == items
    first, last = await deaf.js.message("PAID", 1), await deaf.js.message("PAID", items)
    assert (first.json(), last.json()) == ({"part": 0}, {"part": items - 1})


async def test_a_killed_run_that_stored_some_chunks_is_completed_by_the_next(shop: Shop) -> None:
    await shop.open(
        """
        @consume("orders.{id}", output="paid.{id}")
        def split(order: Order):
            for part in range(2500):
                yield {"part": part}
        """,
        max_msgs=2000,
        discard="new",
    )
    process = await shop.running("split")
    await shop.order(1)
    await eventually(lambda: _count(shop, "PAID", 2000))
    process.kill()
    config = (await shop.js.stream("PAID"))["config"] | {"max_msgs": 5000}
    await shop.js.api("STREAM.UPDATE.PAID", config)
    await shop.give_back("split")
    shop.run()
    await shop.settled("split")
    assert [each.json()["part"] for each in await shop.js.messages("PAID")] == list(range(2500))


async def test_several_outputs_into_one_stream_are_stored_together_or_not_at_all(shop: Shop) -> None:
    await shop.open(
        """
        @consume("orders.{id}", output="paid.{id}")
        async def charge(order: Order, ctx: Context) -> Order:
            note("run")
            await ctx.publish("paid.log.one", {"n": 1})
            ctx.publish("paid.log.two", {"n": 2})
            return order
        """,
        max_msgs=3,
        discard="new",
    )
    await shop.js.publish("paid.before", b"")
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    await shop.js.client.subscribe("paid.>", cb=hear)
    process = await shop.running("charge")
    await shop.order(1)
    await eventually(lambda: heard.count("paid.1") > 1)  # tried again: the server has refused it
    # No room for three: the whole set waits, its input with it, and nothing of it stands.
    assert await shop.js.count("PAID") == 1
    assert await shop.in_work("charge") == 1
    config = (await shop.js.stream("PAID"))["config"] | {"max_msgs": 4}
    await shop.js.api("STREAM.UPDATE.PAID", config)
    await shop.settled("charge")
    assert [each.subject for each in await shop.js.messages("PAID")] == [
        "paid.before", "paid.log.one", "paid.log.two", "paid.1",
    ]  # fmt: skip
    assert len(shop.notes("run")) == 1
    assert process.running


async def test_nothing_is_published_when_the_handler_fails(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}", retry=RetryPolicy.fixed(0, attempts=3))
        async def charge(order: Order, ctx: Context):
            await ctx.publish("audit.try", {"attempt": ctx.attempt})
            if ctx.attempt < 3:
                raise ValueError("no")
            return order

        @consume("orders.{id}", output="paid.{id}.items", retry=RetryPolicy.fixed(0, attempts=2))
        async def split(order: Order, ctx: Context):
            yield {"attempt": ctx.attempt}
            raise ValueError("no")
    """)
    await shop.order(1)
    shop.run()
    letter = await shop.dead_letter()
    await shop.settled("charge")
    assert (letter.subject, reason(letter)) == ("deadletters.shop.split", "exhausted")
    assert [each.json() for each in await shop.js.messages("AUDIT")] == [{"attempt": 3}]
    assert [each.subject for each in await shop.js.messages("PAID")] == ["paid.1"]


async def test_each_stream_gets_its_outputs_once_when_one_of_them_has_to_wait(deaf: Shop) -> None:
    await deaf.open(
        """
        @consume("orders.{id}", output="paid.{id}")
        async def charge(order: Order, ctx: Context) -> Order:
            ctx.publish("audit.a", 1, headers={"Kind": "a"})
            ctx.publish("paid.extra", 2)
            ctx.publish("audit.b", 3)
            return order
        """
    )
    async with acks_lost(deaf, "charge"):
        await deaf.order(1)
        await eventually(lambda: _count(deaf, "AUDIT", 2))
        await eventually(lambda: _count(deaf, "PAID", 2))
    await deaf.give_back("charge")
    deaf.run()
    await deaf.settled("charge")
    audit = await deaf.js.messages("AUDIT")
    assert [(each.subject, each.headers.get("Kind")) for each in audit] == [
        ("audit.a", "a"),
        ("audit.b", None),
    ]
    assert [each.subject for each in await deaf.js.messages("PAID")] == ["paid.extra", "paid.1"]


async def test_two_functions_of_one_input_do_not_swallow_each_others_outputs(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}")
        async def one(order: Order) -> dict:
            return {"by": "one"}

        @consume("orders.{id}", output="paid.{id}")
        async def two(order: Order) -> dict:
            return {"by": "two"}
    """)
    await shop.order(1)
    shop.run()
    await shop.settled("one")
    await shop.settled("two")
    assert sorted(each.json()["by"] for each in await shop.js.messages("PAID")) == ["one", "two"]


async def test_a_delayed_publish_comes_at_its_time_and_once(deaf: Shop) -> None:
    await deaf.open("""
        from datetime import UTC, datetime, timedelta

        @consume("orders.{id}")
        async def charge(order: Order, ctx: Context) -> None:
            ctx.publish("paid.late", {"id": order.id}, delay=4, headers={"Kind": "late"})
            ctx.publish("paid.timed", {"id": order.id}, at=datetime.now(UTC) + timedelta(seconds=4.5))
            ctx.publish("paid.now", {"id": order.id})
    """)
    async with acks_lost(deaf, "charge"):
        await deaf.order(1)
        await eventually(lambda: _count(deaf, "PAID", 1))
        await eventually(lambda: _given(deaf, 3))
    await deaf.give_back("charge")
    deaf.run()
    await deaf.settled("charge")
    await eventually(lambda: _count(deaf, "PAID", 3))
    stored = {each.subject: each for each in await deaf.js.messages("PAID")}
    now, late, timed = (stored[f"paid.{name}"] for name in ("now", "late", "timed"))
    assert (late.json(), late.headers["Kind"]) == ({"id": 1}, "late")
    first = datetime.fromisoformat(now.time)
    assert 3.5 < (datetime.fromisoformat(late.time) - first).total_seconds() < 60
    assert 4 < (datetime.fromisoformat(timed.time) - first).total_seconds() < 60
    await deaf.settled("-relay", stream="JETRUNNER")
    assert await deaf.js.count("PAID") == 3


async def test_an_output_has_the_same_id_in_every_attempt_and_none_of_another_input(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.same")
        async def charge(order: Order, ctx: Context) -> int:
            return order.id
    """)
    await shop.order(*range(50))
    process = shop.run()
    await shop.settled("charge")
    process.terminate()
    await process.ended()
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-charge")
    await shop.js.api("STREAM.PURGE.KV_jetrunner")
    shop.run()  # a durable made anew without a known floor: every input once more
    await shop.settled("charge")
    assert sorted(each.json() for each in await shop.js.messages("PAID")) == list(range(50))


async def _count(shop: Shop, stream: str, count: int) -> bool:
    return await shop.js.count(stream) >= count


async def _given(shop: Shop, count: int) -> bool:
    """Whether so many outputs stand, or wait for their time or for the relay."""
    return await shop.js.count("PAID") + await shop.js.count("JETRUNNER") >= count
