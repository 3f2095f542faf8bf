"""Recorded starts of suspects in the bucket: whose process is asked, what counts as a death, who takes what back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runner.config import Settings
from runner.core.poison import Run, Start, StartRecord
from runner.core.settlement import Crashed
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.delivery import Delivery
from runner.jetstream.topology import Topology
from runner.pipeline import start_records as module
from runner.pipeline.message import Incoming, read
from runner.pipeline.start_records import StartRecords
from runner.runtime.runtime import Instance, Runtime
from runner.telemetry import settings as telemetry
from runner.telemetry.tracing import Tracing
from tests.server.conftest import Connects
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

DENIED = """
    authorization {{ users: [
        {{ user: root, password: r }}
        {{ user: app, password: a, permissions: {{ publish: {{ deny: "{}" }} }} }}
    ] }}
"""
REPLICAS = "$JS.API.DIRECT.GET.KV_jetrunner.>"
LEADER = "$JS.API.STREAM.MSG.GET.KV_jetrunner"
PURGE = "$JS.API.STREAM.PURGE.KV_jetrunner"
ALIVE = "jetrunner.shop.alive.>"
KEY = "$KV.jetrunner.start.shop.charge.ORDERS.7"
STORED = 1_700_000_000_123_456_789
DEAD = [("a", 1), ("b", 3), ("c", 3)]


@asynccontextmanager
async def process(connection: Connection, instance: str) -> AsyncIterator[StartRecords]:
    """The suspects of one function in a process of that name."""
    await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
    async with anyio.create_task_group() as tasks:
        yield StartRecords(
            Runtime(
                Instance(project="shop", name=instance, settings=Settings()),
                connection,
                Topology(connection),
                Tracing(telemetry.load({"OTEL_TRACES_EXPORTER": "none"}), "shop"),
                tasks,
            ),
            "charge",
        )
        tasks.cancel_scope.cancel()


def message(sequence: int = 7, stored: int = STORED) -> Incoming:
    """A message's second delivery, at work."""
    source: Any = SimpleNamespace(unsettled={})
    reply = f"$JS.ACK.ORDERS.shop-charge.2.{sequence}.9.{stored}.0"
    delivery = Delivery(b"orders.1", reply.encode(), None, b"{}", sequence, 2, source, careful=True)
    source.unsettled[sequence] = delivery
    return read(delivery)


async def look(suspects: StartRecords, incoming: Incoming) -> object:
    return (await suspects.look(incoming, lambda: False)).step


async def start(suspects: StartRecords, incoming: Incoming) -> int:
    """Do what is done before a handler is called; the stage."""
    seen = await suspects.look(incoming, lambda: False)
    assert isinstance(seen.step, Run)
    await suspects.record(incoming, seen, seen.step.stage)
    return seen.step.stage


def record(*starts: tuple[str, int], stored: int = STORED) -> bytes:
    return StartRecord(stored, tuple(Start(*each) for each in starts)).encode()


async def standing(js: RawJetStream, key: str = KEY) -> list[tuple[str, int]]:
    found = await js.messages("KV_jetrunner", key)
    return [(each["instance"], each["stage"]) for last in found for each in last.json()["starts"]]


@asynccontextmanager
async def living(url: str, *instances: str, answers: bool = True) -> AsyncIterator[Client]:
    """Connections of other processes."""
    client = await nats.connect(url)

    async def alive(probe: Msg) -> None:
        if answers:
            await probe.respond(b"")

    for instance in instances:
        await client.subscribe(f"jetrunner.shop.alive.{instance}", cb=alive)
    await client.flush()
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> float:
    """The verdict takes this many seconds."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.6)
    return 0.6


# -- what is on record ----------------------------------------------------------------------------------


@pytest.mark.parametrize("denied", [REPLICAS, LEADER], ids=["by-leader", "by-replica"])
async def test_starts_are_read_from_the_leader_and_from_a_replica_only_where_the_leader_may_not_be_asked(
    make_server: Callable[..., NatsServer], connected: Connects, denied: str
) -> None:
    server = make_server(DENIED.format(denied))
    async with (
        RawJetStream.connect(server.url_as("root", "r")) as js,
        connected(server.url_as("app", "a")) as connection,
    ):
        for instance, stage in (("x", 1), ("y", 2), ("z", 2)):
            async with process(connection, instance) as suspects:
                assert await start(suspects, message()) == stage
                assert await look(suspects, message(70)) == Run(1)
        async with process(connection, "u") as suspects:
            incoming = message()
            await suspects.look(incoming, lambda: True)
            await suspects.drop(incoming)
            assert not incoming.delivery.recorded
            assert await js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


async def test_a_bucket_that_was_deleted_holds_nothing_against_a_message_and_is_there_again(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.api("STREAM.DELETE.KV_jetrunner")
        seen = await suspects.look(message(), lambda: False)
        await js.api("STREAM.DELETE.KV_jetrunner")
        await suspects.record(message(), seen, 1)
        assert await standing(js) == [("me", 1)]


async def test_the_record_of_an_earlier_message_of_that_number_is_ignored_and_replaced(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD, stored=STORED - 1))
        assert await start(suspects, message()) == 1
        assert await standing(js) == [("me", 1)]


@pytest.mark.parametrize("value", [b"7", b"9" * 5000, b"{", b"[]", b"\xff", record(*[("a", 1)] * 9)])
async def test_what_is_no_record_is_told_and_replaced(
    nats_server: NatsServer,
    connected: Connects,
    js: RawJetStream,
    caplog: pytest.LogCaptureFixture,
    value: bytes,
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, value)
        with caplog.at_level(logging.WARNING):
            stage = await start(suspects, message())
        if value == b"7":  # a stage, as earlier versions wrote it
            assert (stage, await standing(js)) == (3, [("", 3), ("me", 3)])
        else:
            assert (stage, await standing(js)) == (1, [("me", 1)])
            assert "start.shop.charge.ORDERS.7 is ignored, because it cannot be read" in caplog.text


# -- what is a death ------------------------------------------------------------------------------------


async def test_a_start_whose_process_lives_is_no_death(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "c") as suspects:
        await js.publish(KEY, record(*DEAD))
        async with living(nats_server.url, "b"):
            assert await look(suspects, message()) == Run(2), "a is gone, b answers, c is this one"


async def test_a_process_that_does_not_answer_in_time_is_not_known_dead(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD))
        async with living(nats_server.url, "a", "b", "c", answers=False):
            assert await look(suspects, message()) == Run(1)


async def test_a_message_is_found_guilty_once_no_sign_of_life_came_for_some_seconds(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, hasty: float
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD))
        began = time.monotonic()
        assert await look(suspects, message()) == Crashed(3)
        assert time.monotonic() - began >= hasty


@pytest.mark.usefixtures("hasty")
async def test_a_process_that_is_back_meanwhile_was_not_dead(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD))
        looking = asyncio.create_task(look(suspects, message()))
        async with AsyncExitStack() as stack:
            looks = 0

            async def comes_back() -> None:
                nonlocal looks
                looks += 1
                if looks == 2:  # in the middle of the wait, however slow the server is
                    await stack.enter_async_context(living(nats_server.url, "b"))

            before_each(suspects, "member.shop.a", comes_back, monkeypatch)
            assert await looking == Run(3), "alone once more"
            assert looks == 3


def before_each(
    suspects: StartRecords,
    key: str,
    act: Callable[[], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Do something before each look at this key."""
    get = suspects._kv.get

    async def after(asked: str) -> Any:
        if asked.endswith(key):
            await act()
        return await get(asked)

    monkeypatch.setattr(suspects._kv, "get", after)


async def asked(js: RawJetStream, instance: str) -> None:
    """Return once a lease was looked for: its process has been found silent."""
    # The lease of a process that has none is asked for once, when the wait begins.
    heard = await js.client.subscribe("$JS.API.STREAM.MSG.GET.KV_jetrunner")
    while True:
        ask = json.loads((await heard.next_msg(timeout=60)).data)
        if ask.get("last_by_subj") == f"$KV.jetrunner.member.shop.{instance}":
            return


@pytest.mark.usefixtures("hasty")
async def test_a_process_whose_lease_is_renewed_lives_though_the_way_to_it_is_gone(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD))

        async def renewed() -> None:
            await js.publish("$KV.jetrunner.member.shop.c", b"it lives")

        before_each(suspects, "member.shop.c", renewed, monkeypatch)
        assert await look(suspects, message()) == Run(3)


async def test_a_lease_that_is_written_once_or_stands_still_is_no_sign_of_life(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, hasty: float
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        for instance in "abc":
            await js.publish(f"$KV.jetrunner.member.shop.{instance}", b"it lived")
        await js.publish(KEY, record(*DEAD))
        looking = asyncio.create_task(look(suspects, message()))
        await asked(js, "a")
        await js.publish("$KV.jetrunner.member.shop.c", b"it is dead")
        assert await looking == Crashed(3)


async def test_what_a_process_has_taken_back_at_the_last_moment_counts_no_more(
    nats_server: NatsServer,
    connected: Connects,
    js: RawJetStream,
    hasty: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even where it is read too late: the verdict is written by compare-and-set."""
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD))
        kv = suspects._kv
        get = kv.get

        async def stale(key: str) -> Any:
            found = await get(key)
            if "start" in key:
                await js.publish(KEY, record(("a", 1), ("b", 2)))
            return found

        monkeypatch.setattr(kv, "get", stale)
        assert await look(suspects, message()) == Run(2)


async def test_a_verdict_that_takes_time_is_given_up_with_the_message(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(*DEAD))
        monkeypatch.setattr(module, "SILENT_SECONDS", 30.0)
        began = time.monotonic()
        seen = await suspects.look(message(), lambda: time.monotonic() - began > 0.2)
        assert seen.step == Run(2)
        assert time.monotonic() - began < module.SILENT_SECONDS


async def test_the_deaths_that_a_living_process_has_seen_are_a_verdict_at_once(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else is asked, and however long the process lives that has seen them."""
    async with (
        connected(nats_server.url) as connection,
        process(connection, "b") as suspects,
        living(nats_server.url, "a"),
    ):
        await js.publish(KEY, record(("a", 1)))
        assert await start(suspects, message()) == 1
        await suspects.witness(message(), "cell-1")
        assert await standing(js) == [("a", 1), ("cell-1", 2)], "its own start is none of them any more"
        assert await start(suspects, message()) == 2
        await suspects.witness(message(), "cell-2")
        monkeypatch.setattr(module, "SILENT_SECONDS", 30.0)
        began = time.monotonic()
        assert await look(suspects, message()) == Crashed(2)
        assert time.monotonic() - began < module.SILENT_SECONDS


async def test_where_nobody_may_be_asked_every_start_counts_and_that_is_told(
    make_server: Callable[..., NatsServer],
    connected: Connects,
    hasty: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(DENIED.format(ALIVE))
    async with (
        RawJetStream.connect(server.url_as("root", "r")) as js,
        connected(server.url_as("app", "a")) as connection,
        process(connection, "me") as suspects,
    ):
        await js.publish(KEY, record(*DEAD))
        assert await look(suspects, message()) == Crashed(3)
    assert "every start without a settlement counts as a crash" in caplog.text


# -- what is taken back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("denied", ["nothing", PURGE])
async def test_a_process_that_has_lost_a_message_takes_its_own_start_back_and_no_other(
    make_server: Callable[..., NatsServer], connected: Connects, denied: str
) -> None:
    server = make_server(DENIED.format(denied))
    async with (
        RawJetStream.connect(server.url_as("root", "r")) as js,
        connected(server.url_as("app", "a")) as connection,
        process(connection, "me") as suspects,
        living(server.url_as("root", "r"), "other"),
    ):
        await js.publish(KEY, record(("other", 2)))
        mine, alone = message(), message(8)
        assert (await start(suspects, mine), await start(suspects, alone)) == (1, 1)
        for incoming in (mine, alone):
            incoming.delivery.source.unsettled.clear()
            await suspects.leave(incoming, 1, ended=True, hold=True)
        await eventually(lambda: stands(js, [("other", 2)]))

        async def is_left() -> bool:
            left = await js.messages("KV_jetrunner", KEY.replace(".7", ".8"))
            return [each.json()["starts"] for each in left] == ([[]] if denied == PURGE else [])

        await eventually(is_left)


async def stands(js: RawJetStream, starts: list[tuple[str, int]]) -> bool:
    return await standing(js) == starts


async def test_what_ran_alone_is_left_once_its_start_stands_no_more(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        await js.publish(KEY, record(("a", 1), ("b", 3)))
        ended, cancelled = message(), message()
        assert await start(suspects, ended) == 3
        await suspects.leave(ended, 3, ended=True, hold=True)
        assert await standing(js) == []
        await js.publish(KEY, record(("a", 1), ("b", 3)))
        assert await start(suspects, cancelled) == 3
        await suspects.leave(cancelled, 3, ended=False, hold=True)
        assert await standing(js) == [("a", 1), ("b", 3)], "the deaths of others stay"


async def test_a_process_that_is_told_to_end_takes_all_its_starts_back(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        for number in range(1, 21):
            await start(suspects, message(number))
        assert await js.messages("KV_jetrunner", "$KV.jetrunner.start.>") != []
        suspects.excuse()

        async def none() -> bool:
            return await js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []

        await eventually(none)


async def test_a_start_is_not_taken_back_for_an_earlier_one_in_the_same_process(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server.url) as connection, process(connection, "me") as suspects:
        first, second = message(), message()
        await start(suspects, first)
        gate = asyncio.Event()
        latest = suspects._kv.get

        async def late(key: str) -> Any:
            found = await latest(key)
            await gate.wait()
            return found

        monkeypatch.setattr(suspects._kv, "get", late)
        first.delivery.source.unsettled.clear()
        await suspects.leave(first, 1, ended=True, hold=True)
        await asyncio.sleep(0)
        monkeypatch.setattr(suspects._kv, "get", latest)
        await start(suspects, second)
        gate.set()
        await suspects.leave(first, 1, ended=True, hold=True)
        for _ in range(5):  # what is under way ends meanwhile
            await latest("start.shop.charge.ORDERS.7")
        assert await standing(js) == [("me", 1)]
