"""Outages and refusals that last: each is told once for each reason, with its remedy, and all goes on by itself afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from nats.aio.msg import Msg

from tests.server.conftest import reload
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

BOTH = """
    @consume("orders.{id}", ordered_by="id", output="paid.{id}")
    async def charge(order: Order) -> Order:
        note("run", id=order.id)
        return order

    @consume("orders.{id}")
    async def other(order: Order) -> None:
        note("other", id=order.id)
"""
ORDERED = """
    @consume("orders.{id}", ordered_by="id")
    async def charge(order: Order) -> None:
        note("run", id=order.id)
        while order.id % 40 == 0 and not os.path.exists("open"):  # the record names all that is done behind each of these
            await asyncio.sleep(0.02)
"""
USERS = """authorization { users: [
    {user: admin, password: a},
    {user: app, password: b, permissions: { publish: { deny: ["%s"] } } }
] }"""
WITH = """accounts {
    A { jetstream: enabled, users: [{user: a, password: a}] }
    B { jetstream: enabled, users: [{user: b, password: b}] }
}
no_auth_user: a
"""
WITHOUT = WITH.replace("A { jetstream: enabled,", "A {")


def told(process: RunnerProcess) -> Counter[str]:
    """How often each warning stands in the log."""
    lines = [line.partition(" ")[2] for line in process.output.splitlines()]
    return Counter(line for line in lines if line.startswith(("warning", "error")))


async def test_an_account_that_loses_jetstream_is_told_in_a_few_lines_and_all_runs_afterwards(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> None:
    server = make_server(WITH)
    async with RawJetStream.connect(server.url) as js:
        shop = Shop(js, server.url, make_project)
        await shop.open(BOTH)
        process = shop.run()
        await process.seen("ready: ")
        await shop.order(1)
        await shop.noted("run")
        tries: list[Msg] = []

        async def tried(message: Msg) -> None:
            tries.append(message)

        await js.client.subscribe("$JS.API.STREAM.CREATE.KV_jetrunner", cb=tried)
        reload(server, WITHOUT)
        await eventually(lambda: len(tries) >= 8)
        await process.seen(
            "nobody answers for the bucket, and it cannot be created: .*JetStream not enabled for account"
        )
        assert max(told(process).values()) == 1, told(process).most_common(3)
        reload(server, WITH)

        async def ordered() -> bool:
            await js.publish("orders.2", {"id": 2}, within=1)  # one that the server never got has no answer
            return True

        await eventually(ordered)
        await eventually(lambda: 2 in {each["id"] for each in shop.notes("run")}, within=120)
        await eventually(lambda: 2 in {each["id"] for each in shop.notes("other")})
        assert process.running


async def test_settlements_that_are_too_large_for_the_bucket_are_told_with_the_remedy(
    js: RawJetStream, nats_server: NatsServer, make_project: Callable[..., Project]
) -> None:
    """Smaller ones are still stored: that one of them is proves nothing."""
    shop = Shop(js, nats_server.url, make_project)
    await shop.open(ORDERED)
    process = shop.run()
    await process.seen("ready: ")
    await shop.order(1)
    await shop.noted("run")
    config = (await js.stream("KV_jetrunner"))["config"]
    await js.api("STREAM.UPDATE.KV_jetrunner", config | {"max_msg_size": 400})
    for number in range(2000):
        await js.client.publish(f"orders.{number}", b'{"id":%d}' % number)
    await process.seen(
        "error .*refused: the bucket KV_jetrunner: message size exceeds maximum allowed; raise max_msg_size of KV_jetrunner"
    )

    def is_shown() -> bool:
        (function,) = shop.project.json("status")["functions"]
        return any("raise max_msg_size of KV_jetrunner" in line for line in function["standing"])

    await eventually(is_shown)
    await js.api("STREAM.UPDATE.KV_jetrunner", config)
    (shop.project.root / "open").touch()
    # What was given out in vain comes again after the ack wait of a shard, a minute.
    await eventually(lambda: len({each["id"] for each in shop.notes("run")}) == 2000, within=150)
    await process.seen("the bucket KV_jetrunner: no longer refused")
    assert sum("refused: the bucket" in line for line in told(process)) == 1


async def test_a_right_that_is_withdrawn_is_told_once_however_often_it_is_used(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> None:
    server = make_server(USERS % "nothing")
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        shop = Shop(js, server.url_as("app", "b"), make_project)
        await shop.open(BOTH)
        process = shop.run(JETRUNNER_LOG_LEVEL="debug")
        await process.seen("ready: ")
        await shop.order(1)
        await shop.noted("run")
        server.stop()
        server.start(USERS % "$KV.jetrunner.settled.>")

        async def ordered() -> bool:
            await js.publish("orders.2", {"id": 2}, within=1)  # one that the server never got has no answer
            return True

        await eventually(ordered)
        await eventually(lambda: process.output.count("settlements could not be recorded") >= 20)
        assert max(told(process).values()) <= 2, told(process).most_common(3)
