"""A key is any text that a subject can carry: however long or odd, its messages keep order, are parked and come back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from runner.core import park, sharding
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PARKS = """
    from pathlib import Path

    @consume("orders.{account}.{what}", ordered_by="account", on_exhausted="park", retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(order: Order, account: str, ctx: Context) -> None:
        note("run", account=account, id=order.id, attempt=ctx.attempt)
        if order.id == 1 and not Path("mended").exists():
            raise ValueError("broken")
"""


async def publish_raw(server: NatsServer, subject: bytes, body: bytes, block: bytes = b"") -> None:
    """As a client does that checks nothing: the server takes more than other clients send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
    if block:
        writer.write(b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(block), len(block + body), block, body))
    else:
        writer.write(b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body))
    writer.write(b"PING\r\n")
    line = await reader.readline()
    assert line == b"PONG\r\n", line
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("wire", ["fast", "plain"])
@pytest.mark.parametrize(
    "key",
    ["k" * 3_000, "é" * 150, "*", "a\x1b]52;c;x\x07", "a\u00a0b", "~0123456789abcdef0123456789abcdef"],
    ids=["3000 bytes", "300 bytes", "star", "escape", "no-break space", "like a hash"],
)
async def test_an_odd_key_is_parked_and_comes_back_in_order(
    shop: Shop, nats_server: NatsServer, js: RawJetStream, key: str, wire: str
) -> None:
    await shop.open(PARKS)
    process = shop.run(JETRUNNER_WIRE=wire)
    await process.seen("ready:")
    for number in (1, 2, 3):
        subject = f"orders.{key}.created".encode()
        await publish_raw(nats_server, subject, json.dumps({"id": number}).encode())
    await js.publish("orders.anna.created", {"id": 1})
    await js.publish("orders.anna.created", {"id": 2})

    async def parked() -> bool:
        found = await asyncio.to_thread(shop.project.json, "deadletter", "list", "--parked")
        return {each["key"]: (each["dead_letters"], each["parked"]) for each in found} == {
            key: (1, 2),
            "anna": (1, 1),
        }

    await eventually(parked)
    assert runs(shop, key) == [(1, 1), (1, 2)]
    (shop.project.root / "mended").touch()
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--key", key)
    assert done.code == 0, done.stderr
    await eventually(lambda: len(runs(shop, key)) == 5)
    assert [number for number, _ in runs(shop, key)] == [1, 1, 1, 2, 3]
    assert len(runs(shop, "anna")) == 2, "another key, which a wildcard would match, stays parked"
    assert process.running
    assert "Traceback" not in process.output
    assert "\x1b" not in process.output + done.stdout + done.stderr


def runs(shop: Shop, key: str) -> list[tuple[Any, Any]]:
    return [(each["id"], each["attempt"]) for each in shop.notes("run") if each["account"] == key]


async def test_a_key_that_is_no_text_is_parked_in_its_own_shard_and_comes_back(
    shop: Shop, nats_server: NatsServer, js: RawJetStream
) -> None:
    """The owner of that shard is who brings it back."""
    sharded = sharding.transform(["orders.*.*"], (1,), 8, 1)
    await js.create("ORDERS", ["orders.*.*"], allow_direct=True, subject_transform=sharded)
    shop.write(PARKS.replace("order: Order, account: str", "order: Order").replace("account=account, ", ""))
    process = shop.run()
    await process.seen("owns 8 of 8 shards")
    keys = [b"\xff", b"\xfe\xff", b"a\xe9b"]
    assert {sharding.place((await shard(js, nats_server, key)).subject)[1] for key in keys} != {0}
    for key in keys:
        for number in (1, 2):
            await publish_raw(nats_server, b"orders.%b.new" % key, json.dumps({"id": number}).encode())
    await shop.dead_letter(len(keys))
    await eventually(lambda: stored(js, len(keys)))
    (shop.project.root / "mended").touch()
    for key in keys:
        name = key.decode("utf-8", "surrogateescape")
        done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--key", name)
        assert done.code == 0, done.stderr
    await eventually(lambda: stored(js, 0))
    await eventually(lambda: [note["id"] for note in shop.notes("run")].count(2) == len(keys))
    assert process.running


async def shard(js: RawJetStream, server: NatsServer, key: bytes) -> Stored:
    """A message of the key, as the server stores it; its handler succeeds."""
    before = len(await js.messages("ORDERS"))
    await publish_raw(server, b"orders.%b.first" % key, b'{"id": 0}')

    async def new() -> list[Stored]:
        return (await js.messages("ORDERS"))[before:]

    (stored,) = await eventually(new)
    return stored


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_a_message_whose_subject_is_no_text_is_parked_and_comes_back(
    shop: Shop, nats_server: NatsServer, js: RawJetStream, wire: str
) -> None:
    """Its key is text, and another of its tokens is not."""
    await shop.open(PARKS)
    process = shop.run(JETRUNNER_WIRE=wire)
    await process.seen("ready:")
    for number in (1, 2):
        await publish_raw(nats_server, b"orders.anna.\xff\xfe", json.dumps({"id": number}).encode())
    await shop.dead_letter()
    await eventually(lambda: stored(js, 1))
    (shop.project.root / "mended").touch()
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--key", "anna")
    assert done.code == 0, done.stderr
    await eventually(lambda: [number for number, _ in runs(shop, "anna")] == [1, 1, 1, 2])
    assert process.running


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_a_message_whose_headers_break_their_lines_is_parked_and_comes_back(
    shop: Shop, nats_server: NatsServer, js: RawJetStream, wire: str
) -> None:
    """The server stores a line feed, or a carriage return, that stands alone in a header or a subject."""
    await shop.open(PARKS)
    process = shop.run(JETRUNNER_WIRE=wire)
    await process.seen("ready:")
    block = b"NATS/1.0\r\nTenant: a\nInjected: b\r\nOther: c\rd\r\n\r\n"
    for number in (1, 2):
        body = json.dumps({"id": number}).encode()
        await publish_raw(nats_server, b"orders.anna.a\rb", body, block)
    await shop.dead_letter()
    await eventually(lambda: stored(js, 1))
    (letter,) = await shop.dead()
    assert letter.headers["Tenant"] == "a Injected: b"
    (shop.project.root / "mended").touch()
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--key", "anna")
    assert done.code == 0, done.stderr
    await eventually(lambda: [number for number, _ in runs(shop, "anna")] == [1, 1, 1, 2])
    assert process.running


BEYOND = str(10**19)
"""More than any sequence."""


async def test_what_is_said_to_come_from_nowhere_frees_no_key(shop: Shop, js: RawJetStream) -> None:
    """Whoever may send something back could have a mark written that nobody reads: its key would run on."""
    await shop.open(PARKS)
    process = shop.run()
    await process.seen("ready:")
    for number in (1, 2):
        await js.publish("orders.anna.created", {"id": number})
    await eventually(lambda: stored(js, 1))
    place = {"Stream": "ORDERS", "Sequence": BEYOND, "Timestamp": "1", "Subject": "orders.anna.created"}
    headers = {f"Jetrunner-Origin-{name}": value for name, value in place.items()}
    await js.publish("$JETRUNNER.again.shop.charge", {"id": 9}, headers)
    await shop.dead_letter(2)
    await eventually(lambda: emptied(js))
    for mark in await js.messages("KV_jetrunner", "$KV.jetrunner.parked.shop.charge.anna"):
        assert park.read(mark.body).state == "parked"
    (shop.project.root / "mended").touch()
    await js.publish("orders.anna.created", {"id": 3})
    await eventually(lambda: stored(js, 2))
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--key", "anna")
    assert done.code == 0, done.stderr
    await eventually(lambda: [number for number, _ in runs(shop, "anna")] == [1, 1, 1, 2, 3])


async def emptied(js: RawJetStream) -> bool:
    return await js.count("JETRUNNER") == 0


async def stored(js: RawJetStream, count: int) -> bool:
    return await js.count("PARKED") == count
