"""Outputs that their stream refuses for good end as a dead letter; the others of their run, and of other messages, lose nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FENCED = ["paid.>", "_jetrunner.PAID.>"]
ORDERED = 'ordered_by="id", '
EXPECTED = "Nats-Expected-Last-Subject-Sequence"


async def settled(shop: Shop, ordered: str) -> None:
    await shop.settled("charge-0-0" if ordered else "charge")


async def open_with_fences(shop: Shop, source: str) -> None:
    """Open the shop with a stream PAID that holds fences."""
    await shop.open(source)
    config = (await shop.js.stream("PAID"))["config"]
    await shop.js.api("STREAM.UPDATE.PAID", config | {"subjects": FENCED})


async def paid(shop: Shop) -> list[str]:
    return [each.subject for each in await shop.js.messages("PAID", "paid.>")]


@pytest.mark.parametrize("ordered", ["", ORDERED], ids=["unordered", "ordered"])
@pytest.mark.parametrize("large", [0, 1, 2])
async def test_an_output_that_is_too_large_is_the_handlers_failure_wherever_it_stands_among_the_others(
    shop: Shop, large: int, ordered: str
) -> None:
    await open_with_fences(
        shop,
        f"""
        @consume("orders.{{id}}", {ordered}retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            for number in range(3):
                large = number == {large} and order.id == 1
                ctx.publish(f"paid.{{order.id}}.{{number}}", "x" * (5000 if large else 10))
        """,
    )
    config = (await shop.js.stream("PAID"))["config"]
    await shop.js.api("STREAM.UPDATE.PAID", config | {"max_msg_size": 1000})
    await shop.order(1, 2)
    shop.run()
    letter = await shop.dead_letter()
    assert "message size exceeds maximum allowed" in letter.headers["Jetrunner-Dead-Message"]
    await settled(shop, ordered)
    assert sorted(note["id"] for note in shop.notes("run")) == [1, 1, 2]
    assert await paid(shop) == ["paid.2.0", "paid.2.1", "paid.2.2"]


SMALL = """
    accounts { SMALL { jetstream: {max_file: 400KB}, users: [{user: small, password: small}] } }
    no_auth_user: small
"""


@pytest.mark.parametrize("ordered", ["", ORDERED], ids=["unordered", "ordered"])
async def test_outputs_of_which_a_half_has_found_room_are_all_stored_before_their_input_is_acknowledged(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project], ordered: str
) -> None:
    server = make_server(SMALL)
    async with RawJetStream.connect(server.url) as js:
        shop = Shop(js, server.url, make_project)
        await open_with_fences(
            shop,
            f"""
            @consume("orders.{{id}}", {ordered}output="paid.{{id}}")
            async def charge(order: Order, ctx: Context) -> None:
                note("run")
                for number in range(8):
                    ctx.publish(f"paid.{{number}}", "x" * 40_000)
            """,
        )
        shop.run()
        await eventually(lambda: shop.pulling("charge-0-0" if ordered else "charge"))
        for _ in range(4):
            await js.publish("audit.filled", "x" * 45_000)
        await shop.order(1)
        await eventually(lambda: _stands(shop))
        assert len(await paid(shop)) < 8
        assert len(shop.notes("run")) == 1
        await js.api("STREAM.PURGE.AUDIT")
        await settled(shop, ordered)
        assert await paid(shop) == [f"paid.{number}" for number in range(8)]


async def _stands(shop: Shop) -> bool:
    return bool(await paid(shop))


@pytest.mark.parametrize("name", [EXPECTED, "Nats-Expected-Last-Sequence", "Nats-Expected-Last-Msg-Id"])
@pytest.mark.parametrize(
    ("ordered", "outputs"), [(ORDERED, 1), (ORDERED, 2), ("", 2)], ids=["fenced", "fenced batch", "batch"]
)
async def test_what_an_output_expects_of_its_stream_is_refused_before_anything_is_sent_where_it_cannot_hold(
    shop: Shop, ordered: str, outputs: int, name: str
) -> None:
    await open_with_fences(
        shop,
        f"""
        @consume("orders.{{id}}", {ordered}retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            ctx.publish("audit.first", 1)
            headers = {{"{name.lower()}": "0"}} if order.id == 1 else {{}}
            for number in range({outputs}):
                ctx.publish(f"paid.{{order.id}}", number, headers=headers)
        """,
    )
    await shop.order(1, 2)
    shop.run()
    letter = await shop.dead_letter()
    error = letter.headers["Jetrunner-Dead-Message"]
    assert f"{name.lower()} cannot be used" in error
    assert "publish to paid.1 alone" in error
    await settled(shop, ordered)
    assert await paid(shop) == ["paid.2"] * outputs
    assert await shop.js.count("AUDIT") == 1


async def test_an_output_that_is_alone_may_expect_the_last_sequence_of_its_subject(shop: Shop) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            ctx.publish("audit.first", 1)
            ctx.publish("paid.same", order.id, headers={{"{EXPECTED}": "0"}})
    """)
    await shop.order(1)
    shop.run()
    await shop.settled("charge")
    await shop.order(2)
    letter = await shop.dead_letter()
    assert "wrong last sequence: 1" in letter.headers["Jetrunner-Dead-Message"]
    assert [each.json() for each in await shop.js.messages("PAID")] == [1]


@pytest.mark.parametrize("ordered", ["", ORDERED], ids=["unordered", "ordered"])
@pytest.mark.parametrize("outputs", [1, 2])
async def test_an_output_that_expects_its_stream_is_stored_and_one_that_expects_another_has_failed(
    shop: Shop, outputs: int, ordered: str
) -> None:
    await open_with_fences(
        shop,
        f"""
        @consume("orders.{{id}}", {ordered}retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            for number in range({outputs}):
                stream = "OTHER" if order.id == 1 and number == 0 else "PAID"
                ctx.publish(f"paid.{{order.id}}", number, headers={{"Nats-Expected-Stream": stream}})
        """,
    )
    await shop.order(1, 2)
    shop.run()
    letter = await shop.dead_letter()
    assert "expected stream does not match" in letter.headers["Jetrunner-Dead-Message"]
    await settled(shop, ordered)
    assert await paid(shop) == ["paid.2"] * outputs
