"""What comes from NATS is checked before it is used: it can neither speak for the runner, nor stop it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ORDERED_AND_NOT = """
    @consume("orders.{account}.created", ordered_by="account", output="paid.{account}", retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(order: Order, account: str, ctx: Context) -> Order:
        note("charge", id=order.id, attempt=ctx.attempt)
        return order

    @consume("orders.{account}.created")
    async def audit(order: Order, ctx: Context) -> None:
        note("audit", id=order.id, attempt=ctx.attempt)
"""

INJECTED = "x\r\nPUB evil 5\r\nevil!\r\nPUB $JS.API.STREAM.PURGE.ORDERS 0\r\n\r\nPUB jetrunner.shop.alive.x"
SPACED = "x y z"
GARBAGE: list[bytes] = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"[]",
    b"null",
    b"-1",
    b"9" * 5_000,
    b"\xd9\xa3",  # a digit, but no ASCII one
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"owner":"\xff"}',
    json.dumps({"instance": INJECTED, "functions": ["charge"], "state": "alive", "server": SPACED}).encode(),
    json.dumps({"owner": INJECTED, "epoch": -1, "since": 1e300, "before": [SPACED]}).encode(),
    json.dumps({"owner": SPACED, "epoch": 10**40, "since": 0}).encode(),
    json.dumps(
        {"stream": SPACED, "created": INJECTED, "subject": ">", "generation": 10**30, "count": -5}
    ).encode(),
    json.dumps({"state": "parked", "since": -1, "through": {"stream": INJECTED}, "positions": [-1]}).encode(),
    json.dumps({"sequence": -1, "created": 7}).encode(),
    msgspec.msgpack.encode([-1, {SPACED: [-5, 1 << 63]}]),
    msgspec.msgpack.encode([1, {INJECTED: [1]}]),
    b"\x91" * 100_000,
    b"\x92\x01\xdf\xff\xff\xff\xff",
]
"""What no instance ever wrote."""

KEYS = [
    "member.shop.x",
    "member.shop.web-1-7-aa",
    "claim.shop.charge.0.0",
    "claim.shop.charge.0.abc",
    "claim.shop.charge.0.99999999999999999999",
    "claim.shop.nothing",
    "generation.shop.charge",
    "generation.shop.nothing",
    "failures.shop.charge.0.0.1",
    "failures.shop.charge.0.0.x",
    "failures.shop.charge.0.0.99999999999999999999",
    "floor.shop.ORDERS.shop-audit",
    "floor.shop.ORDERS.shop-charge-0-0",
    "floor.shop.ORDERS.shop-charge-x-y",
    "parked.shop.charge.anna",
    "parked.shop.charge.~0123",
    "settled.shop.charge.x.0",
    "settled.shop.charge.web-1-7-aa.x",
    "start.shop.audit.ORDERS.1",
    "start.shop.audit.x",
    "unheard.of",
    "$x",
]
"""One of every family, where it belongs and where it does not."""


@asynccontextmanager
async def publisher(
    server: NatsServer, user: str = "", password: str = ""
) -> AsyncIterator[Callable[..., Any]]:
    """`await say(subject, body, reply)` as a client that checks nothing; returns once the server has taken it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 22)
    await reader.readline()
    login = {"user": user, "pass": password} if user else {}
    writer.write(b"CONNECT %b\r\n" % json.dumps({"verbose": False, "headers": True, **login}).encode())

    async def say(subject: bytes, body: bytes, reply: bytes = b"", header: bytes = b"") -> bytes:
        if header:
            sizes = b"%d %d" % (len(header), len(header) + len(body))
            writer.write(b"HPUB %b %b %b\r\n%b%b\r\nPING\r\n" % (subject, reply, sizes, header, body))
        else:
            writer.write(b"PUB %b %b %d\r\n%b\r\nPING\r\n" % (subject, reply, len(body), body))
        told = b""
        while not (line := await reader.readline()).startswith(b"PONG"):
            told += line
            assert line, told
        return told

    try:
        yield say
    finally:
        writer.close()


# -- a user who may only speak to the instances ------------------------------------------------------------

LOGIN = """
authorization {
  users: [
    { user: runner, password: secret }
    { user: mallory, password: mallory, permissions: { publish: [%s], subscribe: ["_INBOX.mallory.>"] } }
  ]
}
"""


@pytest.fixture
def guarded(make_server: Callable[..., NatsServer]) -> NatsServer:
    """A server on which `mallory` may say something to a project's instances, and nothing else."""
    return make_server(
        LOGIN % ", ".join(f'"jetrunner.shop.{each}"' for each in ("members", "resized", "status", "alive.*"))
    )


@pytest.fixture
async def watcher(guarded: NatsServer) -> AsyncIterator[RawJetStream]:
    """A connection that sees everything."""
    async with RawJetStream.connect(guarded.url_as("runner", "secret")) as raw:
        yield raw


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_nobody_speaks_for_the_runner_who_may_only_speak_to_it(
    guarded: NatsServer, watcher: RawJetStream, make_project: Callable[..., Project], wire: str
) -> None:
    shop = Shop(watcher, guarded.url_as("runner", "secret"), make_project)
    await shop.open(ORDERED_AND_NOT)
    heard: list[tuple[str, bytes]] = []

    async def note(message: Any) -> None:
        heard.append((message.subject, message.data))

    for subject in ("evil", "evil.>", "x", "$JS.API.STREAM.PURGE.>", "$JS.API.STREAM.DELETE.>", "orders.>"):
        await watcher.client.subscribe(subject, cb=note)
    await watcher.client.flush()
    process = shop.run(JETRUNNER_WIRE=wire)
    await process.seen("ready:")
    stored = await watcher.messages("KV_jetrunner")  # one by one: the lease may be renewed meanwhile
    (lease,) = {each.subject for each in stored if ".member.shop." in each.subject}
    instance = lease.rpartition(".")[2]
    before = await connections(guarded, watcher)
    bodies = [
        *GARBAGE,
        *(
            json.dumps({field: value}).encode()
            for name in (INJECTED, SPACED, "x" * 5_000, "*", ">", "", "a.b")
            for field, value in (
                ("joined", {"instance": name, "functions": ["charge"]}),
                ("joined", {"instance": "y", "functions": [name], "server": name}),
                ("left", name),
                ("dead", name),
            )
        ),
    ]
    replies = [
        b"evil",
        b"orders.evil.created",
        b"$JS.API.STREAM.PURGE.ORDERS",
        b"$JS.API.STREAM.DELETE.ORDERS",
    ]
    async with publisher(guarded, "mallory", "mallory") as say:
        for body in bodies:
            await say(b"jetrunner.shop.members", body)
        for reply in replies:
            for subject in (f"alive.{instance}", "alive.x", "status", "members", "resized"):
                await say(f"jetrunner.shop.{subject}".encode(), b"", reply)
                await say(f"jetrunner.shop.{subject}".encode(), b"x", reply)
        assert b"Permissions Violation" in await say(b"orders.forged.created", b"{}")
    await watcher.publish("orders.anna.created", {"id": 1})
    await shop.noted("charge")
    await shop.noted("audit")
    await said(shop)
    assert [each for each in heard if each[0] != "orders.anna.created"] == []
    assert (await watcher.stream("ORDERS"))["state"]["messages"] == 1
    assert await connections(guarded, watcher) == before, "its connection has lived through all of it"
    assert process.running
    assert "lost; reconnecting" not in process.output
    assert "Traceback" not in process.output


async def connections(server: NatsServer, watcher: RawJetStream) -> list[str]:
    """When the runner has connected."""
    log = await asyncio.to_thread(server.log.read_text)
    return [line for line in log.splitlines() if "Client connection closed" in line or "Slow" in line]


async def said(shop: Shop) -> None:
    """The instance has worked off what was said to it before."""
    answers: list[Any] = []

    async def answered(message: Any) -> None:
        answers.append(message)

    inbox = shop.js.client.new_inbox()
    await shop.js.client.subscribe(inbox, cb=answered)
    await shop.js.client.publish("jetrunner.shop.status", b"", reply=inbox)
    await eventually(lambda: answers)


# -- garbage in the bucket ---------------------------------------------------------------------------------


async def litter(js: RawJetStream, server: NatsServer, turn: int) -> None:
    """Something wrong under every kind of key, another thing in every turn."""
    values = itertools.cycle(GARBAGE[turn:] + GARBAGE[:turn])
    async with publisher(server) as say:
        for key in KEYS:
            await say(f"$KV.jetrunner.{key}".encode(), next(values))
        await say(b"$KV.jetrunner.claim.shop.charge.0.\xff\xfe", next(values))
        await say(b"$KV.jetrunner.parked.shop.charge.a\x1b]52;c;x\x07", next(values))
        block = b"NATS/1.0 404 No Messages\r\nNats-Sequence: x\r\n\r\n"
        await say(b"$KV.jetrunner.member.shop.status", next(values), b"", block)
    await js.client.flush()


async def works(shop: Shop, process: RunnerProcess, number: int) -> None:
    """Both functions handle another message."""
    await shop.js.publish("orders.anna.created", {"id": number})

    def handled() -> bool:
        return all(number in {each["id"] for each in shop.notes(name)} for name in ("charge", "audit"))

    await eventually(handled)
    assert process.running
    assert "Traceback" not in process.output
    assert "\x1b" not in process.output


TURNS = range(0, len(GARBAGE), 6)


async def ready(shop: Shop) -> RunnerProcess:
    """A runner that takes messages."""
    process = shop.run()
    await process.seen("ready:")
    return process


@pytest.mark.parametrize("turn", TURNS)
async def test_garbage_in_the_bucket_ends_no_start_and_nothing_that_runs(
    shop: Shop, js: RawJetStream, nats_server: NatsServer, turn: int
) -> None:
    await shop.open(ORDERED_AND_NOT)
    process = await ready(shop)
    await works(shop, process, 1)
    await litter(js, nats_server, turn + 3)  # while it runs
    await works(shop, process, 2)
    process.terminate()
    assert await process.ended() == 0
    await litter(js, nats_server, turn)  # and before the next one starts
    process = await ready(shop)
    await works(shop, process, 3)
    assert "is ignored: " in process.output


async def test_garbage_in_the_bucket_ends_no_command(
    shop: Shop, js: RawJetStream, nats_server: NatsServer
) -> None:
    await shop.open(ORDERED_AND_NOT)
    process = await ready(shop)
    await works(shop, process, 1)
    await litter(js, nats_server, 1)
    for command in (
        ("status",),
        ("shard", "list"),
        ("deadletter", "list"),
        ("deadletter", "list", "--parked"),
    ):
        done = await asyncio.to_thread(shop.project.runner, *command)
        assert done.code == 0, (command, done.stderr)
        assert "\x1b" not in done.stdout + done.stderr


WRONG: list[Any] = [None, -1, 10**40, "\x1b[2J", [10**40] * 3, [[]], {"a": 1}]


# -- garbage in answers ------------------------------------------------------------------------------------


async def test_an_answer_to_status_that_is_none_is_passed_over_and_told(
    shop: Shop, js: RawJetStream, nats_server: NatsServer
) -> None:
    await shop.open(ORDERED_AND_NOT)
    await ready(shop)
    good = {
        "stream": "ORDERS", "durable": "shop-audit", "in_flight": 0, "handled": 1, "acked": 1, "failed": 0,
        "retried": 0, "rate": 0.5, "duration": [5, 1],
    }  # fmt: skip
    whole = {"instance": "web-1-7", "since": 1.0, "functions": {"audit": good}}
    wrong: list[bytes] = [
        *GARBAGE,
        json.dumps({"functions": {}}).encode(),
        json.dumps({**whole, "since": "yesterday"}).encode(),
        json.dumps({**whole, "since": 1e308}).encode(),
        json.dumps({**whole, "instance": "\x1b]0;x\x07"}).encode(),
        json.dumps({**whole, "functions": []}).encode(),
        json.dumps({**whole, "functions": {"audit": None}}).encode(),
        json.dumps({**whole, "functions": {"a b": good}}).encode(),
        *(
            json.dumps(
                {**whole, "functions": {"audit": {k: v for k, v in good.items() if k != name}}}
            ).encode()
            for name in good
        ),
        *(
            json.dumps({**whole, "functions": {"audit": {**good, name: value}}}).encode()
            for name in good
            for value in WRONG
        ),
    ]

    async def answer(message: Any) -> None:
        for body in wrong:
            await js.client.publish(message.reply, body)

    await js.client.subscribe("jetrunner.shop.status", cb=answer)
    await js.client.flush()

    async def told() -> bool:  # whoever stands still does not answer in time
        done = await asyncio.to_thread(shop.project.runner, "status")
        assert done.code == 0, done.stderr
        assert "audit" in done.stdout
        assert "\x1b" not in done.stdout + done.stderr
        return "is ignored: " in done.stderr

    async def instances() -> int:
        return len((await asyncio.to_thread(shop.project.json, "status"))["instances"])

    await eventually(told)
    assert await eventually(instances) == 1
