"""Whatever a message holds, it hurts nobody: it is handled or a dead letter, and the runner goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

BOTH_WAYS = """
    @consume("orders.plain.*", output="paid.plain", retry=RetryPolicy.fixed(0, attempts=2))
    async def plain(order: Order) -> Order:
        note("plain", id=order.id)
        return order

    @consume("orders.whole.*", retry=RetryPolicy.fixed(0, attempts=2))
    async def whole(order: Order, ctx: Context) -> None:
        note("whole", id=order.id, headers=dict(ctx.headers))
"""
INVALID = {
    "no JSON": b"garbage",
    "half": b'{"id": 1',
    "another type": b'{"id": "one"}',
    "a list": b"[1, 2]",
    "null": b"null",
    "missing field": b"{}",
    "empty": b"",
    "bytes": bytes(range(256)),
    "invalid UTF-8": b'{"id": 1, "note": "\xff\xfe"}',
    "deep": b"[" * 100_000,
    "long number": b'{"id": ' + b"9" * 10_000 + b"}",
    "NUL": b'{"id": 1}\x00',
}


@pytest.fixture
def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    return Shop(js, nats_server.url, make_project)


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_a_body_that_does_not_decode_is_a_dead_letter_and_its_neighbours_are_handled(
    shop: Shop, wire: str
) -> None:
    await shop.open(BOTH_WAYS)
    process = await shop.running("plain", JETRUNNER_WIRE=wire)
    for way in ("plain", "whole"):
        for number, body in enumerate(INVALID.values()):
            await shop.js.publish(f"orders.{way}.bad", body)
            await shop.js.publish(f"orders.{way}.good", {"id": number})
    await shop.dead_letter(2 * len(INVALID))
    for way in ("plain", "whole"):
        await shop.settled(way)
        letters = await shop.js.messages("DEADLETTERS", f"deadletters.shop.{way}")
        assert sorted(letter.body for letter in letters) == sorted(INVALID.values())
        assert {reason(letter) for letter in letters} == {"undecodable"}
        assert {each["id"] for each in shop.notes(way)} == set(range(len(INVALID)))
    assert process.running
    assert "Traceback" not in process.output


async def test_a_dead_letter_and_a_log_line_do_not_quote_a_body_that_did_not_decode(shop: Shop) -> None:
    await shop.open(BOTH_WAYS)
    await shop.js.publish("orders.plain.bad", b'{"id": "s3cret", "note": "s3cret"}')
    await shop.js.publish("orders.whole.bad", b"s3cret")
    process = shop.run("--log-level", "debug")
    await shop.dead_letter(2)
    for letter in await shop.dead():
        assert b"s3cret" not in letter.raw_headers
    assert "s3cret" not in process.output


async def test_an_empty_body_takes_the_default_and_without_one_is_undecodable(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.default")
        async def default(order: Order = Order(id=7)) -> None:
            note("default", id=order.id)

        @consume("orders.none")
        async def none(order: Order | None = None) -> None:
            note("none", order=order)

        @consume("orders.without")
        async def without(order: Order) -> None:
            note("without")

        @consume("orders.raw")
        async def raw(body: bytes) -> None:
            note("raw", size=len(body))

        @consume("orders.nobody")
        async def nobody(ctx: Context) -> None:
            note("nobody")
    """)
    for name in ("default", "none", "without", "raw", "nobody"):
        await shop.js.publish(f"orders.{name}", b"")
    shop.run()
    for name in ("default", "none", "without", "raw", "nobody"):
        await shop.settled(name)
    assert [each["id"] for each in shop.notes("default")] == [7]
    assert [each["order"] for each in shop.notes("none")] == [None]
    assert len(shop.notes("nobody")) == 1
    letters = {letter.subject.split(".")[-1]: reason(letter) for letter in await shop.dead()}
    assert letters["without"] == "undecodable"
    assert shop.notes("without") == []
    assert set(letters) <= {"without", "raw"}


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_a_dead_letter_of_a_body_that_fills_the_servers_limit_is_stored_without_it(
    shop: Shop, wire: str
) -> None:
    await shop.open("""
        @consume("orders.{size}", retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(body: bytes, size: int, ctx: Context) -> None:
            raise ValueError("x" * 100_000)
    """)
    limit = 1 << 20
    sizes = [limit - 200, limit, limit - 1000, limit - 50_000, limit // 2, 10]
    for size in sizes:
        await shop.js.publish(f"orders.{size}", b"x" * size)
    await shop.js.publish("orders.headers", b"y" * (limit - 2000), {"Tenant": "a", "Large": "z" * 1500})
    process = await shop.running("charge", JETRUNNER_WIRE=wire)
    await shop.dead_letter(len(sizes) + 1)
    await shop.settled("charge")
    letters = {letter.headers["Jetrunner-Dead-Subject"]: letter for letter in await shop.dead()}
    for size in sizes:
        letter = letters[f"orders.{size}"]
        assert reason(letter) == "exhausted"
        if letter.headers.get("Jetrunner-Dead-Body") == "omitted":
            assert letter.body == b""
            sequence = int(letter.headers["Jetrunner-Dead-Sequence"])
            assert len((await shop.js.message("ORDERS", sequence)).body) == size
        else:
            assert len(letter.body) == size
    assert letters[f"orders.{limit - 200}"].headers["Jetrunner-Dead-Body"] == "omitted"
    assert len(letters[f"orders.{limit // 2}"].body) == limit // 2
    assert reason(letters["orders.headers"]) == "undecodable"
    assert process.running
    assert "lost" not in process.output


async def test_headers_that_are_not_text_arrive_and_stand_in_the_dead_letter_byte_for_byte(
    shop: Shop,
) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}")
        async def charge(order: Order, ctx: Context) -> Order:
            note("run", tenant=ctx.headers["tenant"] if "tenant" in ctx.headers else repr(dict(ctx.headers)))
            if order.note:
                raise Reject("no")
            return order
    """)
    process = await shop.running("charge")
    block = (
        b"NATS/1.0\r\nTenant: \xff\xfe caf\xe9\r\nno colon here\r\n: no name\r\nX-Y:\r\nX-Y: twice\r\n\r\n"
    )
    await _publish_raw(shop, "orders.1", block, b'{"id": 1}')
    await _publish_raw(shop, "orders.2", block, b'{"id": 2, "note": "bad"}')
    letter = await shop.dead_letter()
    await shop.settled("charge")
    assert b"Tenant: \xff\xfe caf\xe9\r\n" in letter.raw_headers
    assert [each.json()["id"] for each in await shop.js.messages("PAID")] == [1]
    assert process.running


@pytest.mark.parametrize("exporter", ["none", "otlp"])
async def test_a_traceparent_that_is_missing_or_malformed_changes_nothing(shop: Shop, exporter: str) -> None:
    parents = [
        None,
        "",
        "nonsense",
        "00-0000-0000-01",
        "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "B" * 16 + "-01",
        "00-" + "a" * 32 + "-" + "b" * 16 + "-zz",
        "00-" + "a" * 32 + "-" + "b" * 16 + "-01-more",
        "x" * 5000,
    ]
    await shop.open(BOTH_WAYS)
    for number, parent in enumerate(parents):
        headers = {} if parent is None else {"traceparent": parent, "tracestate": parent[:600]}
        await shop.js.publish("orders.plain.1", {"id": number}, headers)
        await shop.js.publish("orders.whole.1", {"id": number}, headers)
        await shop.js.publish("orders.whole.1", b"bad", headers)
    process = shop.run(OTEL_TRACES_EXPORTER=exporter, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    await shop.dead_letter(len(parents))
    for way in ("plain", "whole"):
        await shop.settled(way)
        assert [each["id"] for each in shop.notes(way)] == list(range(len(parents)))
    assert await shop.js.count("PAID") == len(parents)
    assert process.running
    assert "Traceback" not in process.output


async def test_a_subject_token_that_does_not_convert_is_undecodable(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{number}.{text}")
        async def charge(order: Order, number: int, text: str) -> None:
            note("run", number=number, text=text)
    """)
    await shop.js.publish("orders.one.x", {"id": 1})
    await shop.js.publish("orders.1.grüße", {"id": 1})
    shop.run()
    assert reason(await shop.dead_letter()) == "undecodable"
    (ran,) = await shop.noted("run")
    assert (ran["number"], ran["text"]) == (1, "grüße")


async def test_a_content_type_that_does_not_fit_the_body_is_undecodable(shop: Shop) -> None:
    await shop.open(BOTH_WAYS)
    shop.run()
    for kind in ("application/msgpack", "Application/MsgPack; charset=x"):
        await shop.js.publish("orders.plain.1", b'{"id": 1}', {"Content-Type": kind})
        await shop.js.publish("orders.plain.1", b"\x81\xa2id\x05", {"Content-Type": kind})
    await shop.js.publish("orders.plain.1", b"\x81\xa2id\x05", {"Content-Type": "application/json"})
    await shop.js.publish("orders.plain.1", b'{"id": 6}', {"Content-Type": "text/nonsense"})
    await shop.dead_letter(3)
    await shop.settled("plain")
    assert sorted(each["id"] for each in shop.notes("plain")) == [5, 5, 6]
    assert {reason(letter) for letter in await shop.dead()} == {"undecodable"}


async def _publish_raw(shop: Shop, subject: str, block: bytes, body: bytes) -> None:
    """Publish a header block that no client library would write."""
    client = shop.js.client
    before = await shop.js.count("ORDERS")
    frame = f"HPUB {subject} {len(block)} {len(block) + len(body)}\r\n".encode() + block + body + b"\r\n"
    await client._send_command(frame)
    await client.flush()
    await eventually(lambda: _more(shop, before))


async def _more(shop: Shop, than: int) -> bool:
    return await shop.js.count("ORDERS") > than
