"""`@consume` end to end: what a handler gets, from a real stream, over both wires."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    return Shop(js, nats_server.url, make_project)


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_a_body_becomes_what_its_annotation_says(shop: Shop, wire: str) -> None:
    await shop.open("""
        import dataclasses, typing
        import attrs, pydantic

        @dataclasses.dataclass
        class Data:
            id: int

        class Typed(typing.TypedDict):
            id: int

        @attrs.define
        class Attrs:
            id: int

        class Model(pydantic.BaseModel):
            id: int

        class Nested(Struct):
            id: int
            model: Model | None = None

        def make(name, annotation, kind):
            if kind == "def":
                def handler(body, ctx: Context):
                    note(name, type=type(body).__name__, thread=threading.current_thread() is not threading.main_thread())
            else:
                async def handler(body):
                    note(name, type=type(body).__name__)
            if annotation is not None:
                handler.__annotations__["body"] = annotation
            consume("orders.one", name=name)(handler)
            return handler

        for kind in ("async", "def"):
            for name, annotation in {
                "struct": Order, "data": Data, "typed": Typed, "attrs_": Attrs, "model": Model, "nested": Nested,
                "mapping": dict[str, int], "raw": bytes, "text": str, "plain": None,
            }.items():
                globals()[f"{name}_{kind}"] = make(f"{name}_{kind}", annotation, kind)
    """)
    expected = {
        "struct": "Order",
        "data": "Data",
        "typed": "dict",
        "attrs_": "Attrs",
        "model": "Model",
        "nested": "Nested",
        "mapping": "dict",
        "raw": "bytes",
        "text": "str",
        "plain": "dict",
    }
    await shop.js.publish("orders.one", {"id": 1})
    await shop.js.publish(
        "orders.one", msgspec.msgpack.encode({"id": 1}), {"Content-Type": "application/msgpack"}
    )
    process = shop.run(JETRUNNER_WIRE=wire)
    for name, kind in expected.items():
        for way in ("async", "def"):
            await shop.settled(f"{name}_{way}")
            count = 1 if name == "text" else 2  # MessagePack is no text
            assert [each["type"] for each in shop.notes(f"{name}_{way}")] == [kind] * count, (name, way)
            assert {each.get("thread", True) for each in shop.notes(f"{name}_{way}")} == {True}
    assert {letter.headers["Jetrunner-Dead-Function"] for letter in await shop.dead()} <= {
        "text_async",
        "text_def",
    }
    assert process.running


async def test_tokens_and_context_tell_where_a_message_comes_from(shop: Shop) -> None:
    await shop.open("""
        @lifespan
        async def life():
            note("up")
            yield {"opened": True}
            note("down")

        @consume("orders.{customer}.{number}.*", retry=RetryPolicy(attempts=4), timeout=20.0)
        async def charge(order: Order, number: int, ctx: Context, customer: str) -> None:
            ctx.log.info("charging")
            note("run", number=number, customer=customer, subject=ctx.subject, params=dict(ctx.params),
                 tenant=ctx.headers.get("Tenant"), attempt=ctx.attempt, attempts=ctx.attempts,
                 stream=ctx.stream, sequence=ctx.sequence, timestamp=ctx.timestamp.isoformat(),
                 message_id=ctx.message_id, key=ctx.key, shard=ctx.shard, deadline=ctx.deadline,
                 state=ctx.state, missing=ctx.missing)
    """)
    await shop.js.publish("orders.x", {"id": 0})
    sequence = await shop.js.publish("orders.anna.7.created", {"id": 1}, {"Tenant": "a"})
    stored = await shop.js.message("ORDERS", sequence)
    process = shop.run()
    (ran,) = await shop.noted("run")
    await shop.settled("charge")
    told = {name: ran[name] for name in ("number", "customer", "subject", "params", "tenant")}
    assert told == {
        "number": 7,
        "customer": "anna",
        "subject": "orders.anna.7.created",
        "params": {"customer": "anna", "number": "7"},
        "tenant": "a",
    }
    assert (ran["attempt"], ran["attempts"]) == (1, 4)
    assert (ran["stream"], ran["sequence"], ran["message_id"]) == ("ORDERS", sequence, f"ORDERS:{sequence}")
    moment = datetime.fromisoformat(ran["timestamp"])
    assert moment.utcoffset() is not None
    assert ran["timestamp"][:23] == stored.time[:23]
    assert (ran["key"], ran["shard"], ran["missing"]) == (None, None, [])
    assert 15 < ran["deadline"] <= 20
    assert ran["state"] == {"opened": True}
    await process.seen(rf"ORDERS:{sequence} attempt 1: charging")
    process.terminate()
    assert await process.ended() == 0
    assert (len(shop.notes("up")), len(shop.notes("down"))) == (1, 1)


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_outputs_are_encoded_by_their_kind_and_named_by_the_template(shop: Shop, wire: str) -> None:
    await shop.open("""
        @consume("orders.{customer}.{number}", output="paid.{number}.{customer}.done")
        async def charge(order: Order):
            return [order, {"a": 1}, "text", b"bytes", 5, None, [1, 2]][order.id]
    """)
    for number in range(7):
        await shop.js.publish(f"orders.anna.{number}", {"id": number})
    shop.run(JETRUNNER_WIRE=wire)
    await shop.settled("charge")
    stored = {each.subject: each.body for each in await shop.js.messages("PAID")}
    assert stored == {
        "paid.0.anna.done": b'{"id":0,"note":""}',
        "paid.1.anna.done": b'{"a":1}',
        "paid.2.anna.done": b"text",
        "paid.3.anna.done": b"bytes",
        "paid.4.anna.done": b"5",
        "paid.6.anna.done": b"[1,2]",
    }


async def test_a_handler_may_ask_a_service(shop: Shop) -> None:
    await shop.open("""
        class Quote(Struct):
            cents: int

        @consume("orders.{id}", output="paid.{id}", timeout=5.0, retry=RetryPolicy(attempts=1))
        async def charge(order: Order, ctx: Context) -> Quote:
            return await ctx.request("bank.quote", order, returns=Quote)
    """)

    async def answer(message: object) -> None:
        await message.respond(b'{"cents": 42}')  # type: ignore[attr-defined]

    await shop.js.client.subscribe("bank.quote", cb=answer)
    await shop.order(1)
    shop.run()
    await shop.settled("charge")
    assert [each.json() for each in await shop.js.messages("PAID")] == [{"cents": 42}]


async def test_functions_are_chosen_and_each_has_its_own_place(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def one(order: Order) -> None:
            note("one")

        @consume("orders.{id}")
        async def two(order: Order) -> None:
            note("two")
    """)
    await shop.order(1)
    process = await shop.running("one", "--only", "one")
    await shop.settled("one")
    process.terminate()
    await process.ended()
    assert await shop.js.consumers("ORDERS") == ["shop-one"]
    await shop.running("two", "--except", "one")
    await shop.settled("two")
    assert (len(shop.notes("one")), len(shop.notes("two"))) == (1, 1)
