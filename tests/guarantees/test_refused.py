"""What the server refuses the runner itself while it runs: told at once, not ready, in the status, and over once it is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.health import asked
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ORDERED = """
    @consume("orders.{id}", ordered_by="id", on_exhausted="park")
    async def charge(order: Order) -> None:
        note("run", id=order.id)
        if order.note == "bad":
            raise Reject("no")
"""
PLAIN = """
    @consume("orders.{id}", retry=RetryPolicy.fixed(0.05, attempts=2))
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id)
        if order.note == "bad":
            raise Reject("no")
        if order.note == "later":
            await ctx.publish("audit.1", {}, delay=0.1)
"""


def users(denied: str) -> str:
    return (
        "authorization { users: [ {user: admin, password: a}, "
        f"{{user: app, password: b, permissions: {{ publish: {{ deny: [{denied}] }} }} }} ] }}"
    )


async def refusal(process: RunnerProcess, port: int, what: str, remedy: str) -> None:
    """It is told in the log, and the process is not ready, and says why."""
    await process.seen(rf"error .*refused: {what}: .*; {re.escape(remedy)}")
    status, text = await asked(port, "/readyz")
    assert status == 503
    assert remedy in text


async def placed(shop: Shop, number: int, note: str = "") -> None:
    """An order, as soon as the server takes it: what goes into the connection to the one before is never answered."""
    order = {"id": number, "note": note}
    await eventually(lambda: shop.js.publish(f"orders.{number}", order, within=1.0))


async def over(process: RunnerProcess, port: int, what: str) -> None:
    await process.seen(rf"{what}: no longer refused")

    async def ready() -> bool:
        return (await asked(port, "/readyz"))[0] == 200

    await eventually(ready)


@pytest.mark.parametrize(
    ("denied", "source", "note", "what"),
    [
        ("$KV.jetrunner.>", ORDERED, "", "the bucket KV_jetrunner"),
        ("$KV.jetrunner.>", PLAIN, "", "the bucket KV_jetrunner"),
        ("deadletters.>", PLAIN, "bad", "the stream DEADLETTERS"),
        ("parked.>", ORDERED, "bad", "the stream PARKED"),
        ("$JETRUNNER.delayed.>", PLAIN, "later", "the stream JETRUNNER"),
        ("$JS.API.CONSUMER.MSG.NEXT.>", PLAIN, "", "pull requests"),
        ("$JS.ACK.>", PLAIN, "", "acknowledgements"),
    ],
)
async def test_a_right_that_is_withdrawn_is_told_and_it_goes_on_once_it_is_granted(
    make_server: Callable[..., NatsServer],
    make_project: Callable[..., Project],
    denied: str,
    source: str,
    note: str,
    what: str,
) -> None:
    server = make_server(users('"nothing"'))
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        shop = Shop(js, server.url_as("app", "b"), make_project)
        await shop.open(source)
        port = free_port()
        process = shop.run("--health", f"127.0.0.1:{port}")
        await process.seen("ready: ")
        await shop.order(1)
        await shop.noted("run")
        server.stop()
        server.start(users(f'"{denied}"'))
        await placed(shop, 2, note)
        if denied == "parked.>":  # what comes behind it is parked
            await placed(shop, 2)
        await refusal(process, port, what, f"grant the user publish permission on {denied}")
        if denied.startswith("$KV"):
            admin = server.url_as("admin", "a")

            def standing() -> list[str]:
                (function,) = shop.project.json("status", NATS_URL=admin)["functions"]
                return list(function["standing"])

            await eventually(lambda: any(what in line for line in standing()))
        server.stop()
        server.start(users('"nothing"'))
        await over(process, port, what)
        await placed(shop, 3)
        await eventually(lambda: {3} <= {each["id"] for each in shop.notes("run")})
        assert process.running


@pytest.mark.parametrize(
    ("stream", "source", "note"),
    [
        ("KV_jetrunner", ORDERED, ""),
        ("DEADLETTERS", PLAIN, "bad"),
        ("DEADLETTERS", ORDERED, "bad"),
        ("PARKED", ORDERED, "bad"),
    ],
)
async def test_one_of_our_streams_that_is_full_is_told_and_it_goes_on_once_there_is_room(
    shop: Shop, stream: str, source: str, note: str
) -> None:
    await shop.open(source)
    port = free_port()
    process = shop.run("--health", f"127.0.0.1:{port}")
    await process.seen("ready: ")
    await shop.order(1)
    await shop.noted("run")
    subject = {"PARKED": "parked.x.y.", "DEADLETTERS": "deadletters.x."}.get(stream, "$KV.jetrunner.")
    for other in "abc":
        await shop.js.publish(subject + other, {})
    config = (await shop.js.stream(stream))["config"]
    await shop.js.api(f"STREAM.UPDATE.{stream}", config | {"max_msgs": 1, "discard": "new"})
    await shop.order(2, note=note)
    await shop.order(2)
    what = "the bucket KV_jetrunner" if stream.startswith("KV") else f"the stream {stream}"
    await refusal(process, port, what, f"raise the limits of {stream}")
    await shop.js.api(f"STREAM.UPDATE.{stream}", config)
    await over(process, port, what)
    await shop.order(3)
    await eventually(lambda: {3} <= {each["id"] for each in shop.notes("run")})
    assert process.running
