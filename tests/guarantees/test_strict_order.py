"""Promise 2: for each key one message at a time, in stream order, across retries, crashes, hangs and partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from textwrap import dedent
from typing import Any

import pytest
from nats.aio.msg import Msg

from runner.core.identity import shard_durable
from runner.core.sharding import Sharding
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]
SHARDS = 2
BY_HAND = """
import asyncio
import os
from msgspec import Struct
from journal import note
from runner import Context, RetryPolicy, consume

class Entry(Struct):
    number: int
    fails: int = 0
    waits: float = 0.0
    gate: str = ""

@consume("ledger.{account}.posted", output="balances.{account}.changed", ordered_by="account",
         retry=RetryPolicy.fixed(0.2, attempts=3))
async def post(entry: Entry, account: str, ctx: Context) -> dict:
    note("start", account=account, number=entry.number, attempt=ctx.attempt)
    await asyncio.sleep(entry.waits)
    while entry.gate and ctx.attempt == 2 and not os.path.exists(entry.gate):
        await asyncio.sleep(0.01)
    if ctx.attempt <= entry.fails:
        raise ValueError("not yet")
    note("done", account=account, number=entry.number, attempt=ctx.attempt)
    return {"number": entry.number}
"""

OFTEN = """
from runner.process import rounds
rounds.REMEMBER_SECONDS = 0.02
"""


async def opened(
    make_project: Callable[..., Project], url: str, function: str, shards: int = SHARDS
) -> Project:
    """A project with its streams on the server."""
    project = make_project(functions={"ledger": dedent(function)}, streams=streams(shards), nats=url)
    await project.applied()
    return project


async def post(js: RawJetStream, account: str, number: int, **fields: Any) -> int:
    return await js.publish(f"ledger.{account}.posted", {"number": number, **fields})


def noted(project: Project, what: str, account: str) -> list[tuple[int, int]]:
    """Number and attempt of an account's notes, in the order they were written."""
    return [(note["number"], note["attempt"]) for note in project.journal(what) if note["account"] == account]


async def test_a_retry_holds_its_own_key_and_no_other(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND)
    await post(js, "ada", 1, fails=2, gate="open")
    await post(js, "ada", 2)
    for number in range(20):
        await post(js, f"other{number}", number)
    project.start("run")
    await eventually(lambda: len(project.journal("done")) == 20)  # all others, while it waits
    assert noted(project, "done", "ada") == []
    (project.root / "open").touch()
    await eventually(lambda: len(project.journal("done")) == 22)
    assert noted(project, "start", "ada") == [(1, 1), (1, 2), (1, 3), (2, 1)]


async def test_a_dead_letter_lets_its_key_go_on(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND)
    await post(js, "ada", 1, fails=9)
    await post(js, "ada", 2)
    project.start("run")
    await eventually(lambda: noted(project, "done", "ada") == [(2, 1)])
    assert noted(project, "start", "ada") == [(1, 1), (1, 2), (1, 3), (2, 1)]
    (letter,) = await js.messages("DEADLETTERS")
    assert letter.headers["Jetrunner-Dead-Reason"] == "exhausted"


async def test_failures_are_counted_exactly_across_a_kill(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND)
    await post(js, "ada", 1, fails=2, gate="open")
    await post(js, "ada", 2)
    first = project.start("run")
    await eventually(lambda: (1, 2) in noted(project, "start", "ada"))
    first.kill()
    (project.root / "open").touch()
    project.start("run")
    await eventually(lambda: (2, 1) in noted(project, "done", "ada"))
    assert noted(project, "start", "ada") == [(1, 1), (1, 2), (1, 2), (1, 3), (2, 1)]


async def test_an_instance_cut_off_finishes_late_and_its_outputs_are_refused(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND, shards=1)
    async with Proxy.to(nats_server.port) as proxy:
        project.start("run", NATS_URL=proxy.url)
        durable = shard_durable("shop", "post", 1, 0)
        await eventually(lambda: js.consumer("LEDGER", durable))
        await post(js, "ada", 1, waits=5.0)
        await post(js, "ada", 2)
        await eventually(lambda: noted(project, "start", "ada"))
        project.start("run")
        await asyncio.sleep(1.0)
        proxy.freeze()
        await eventually(lambda: (2, 1) in noted(project, "done", "ada"))
        proxy.thaw()
        await post(js, "ada", 3)
        await eventually(lambda: (3, 1) in noted(project, "done", "ada"))
        # A handler is done before its output is stored, and an ack comes behind that.
        await eventually(lambda: js.settled("LEDGER", durable))
        outputs = [message.json()["number"] for message in await js.messages("BALANCES", "balances.>")]
    assert outputs == [1, 2, 3]


async def test_a_deleted_durable_goes_on_where_it_was(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND, shards=1)
    project.start("run")
    for number in range(1, 31):
        await post(js, f"k{number % 3}", number)
    await eventually(lambda: len(project.journal("done")) == 30)
    await js.api(f"CONSUMER.DELETE.LEDGER.{shard_durable('shop', 'post', 1, 0)}")
    for number in range(31, 41):
        await post(js, f"k{number % 3}", number)
    await eventually(lambda: len(project.journal("done")) == 40)
    assert len(project.journal("start")) == 40, "nothing ran twice"


async def test_a_shards_durable_deleted_while_nobody_runs_goes_on_at_its_floor(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Three owners in turn: a floor is remembered anew for a durable that began at one."""
    project = await opened(make_project, nats_server.url, BY_HAND)
    for life in range(3):
        for number in range(40):
            await post(js, f"k{number % 7}", 100 * life + number)
        runner = project.start("run")
        await eventually(partial(has_done, project, 40 * (life + 1)))
        runner.terminate()
        assert await runner.ended() == 0
        for shard in range(SHARDS):
            await js.api(f"CONSUMER.DELETE.LEDGER.{shard_durable('shop', 'post', 1, shard)}")
    assert sorted(note["number"] for note in project.journal("start")) == sorted(
        100 * life + number for life in range(3) for number in range(40)
    )
    assert "is created again after" in runner.output


async def test_a_shard_that_rests_is_not_asked_for_its_floor(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND)
    project.function("often", OFTEN)
    project.start("run")
    durables = [shard_durable("shop", "post", 1, shard) for shard in range(SHARDS)]
    shard_of = Sharding(1, SHARDS, (1,)).shard_of

    async def remembered(durable: str, sequence: int) -> bool:
        floor = await js.messages("KV_jetrunner", f"$KV.jetrunner.floor.shop.LEDGER.{durable}")
        return bool(floor) and bool(floor[0].json()["sequence"] == sequence)

    async def worked_off(account: str) -> None:
        sequence = await post(js, account, 1)
        durable = durables[shard_of(f"ledger.{account}.posted")]
        await eventually(partial(remembered, durable, sequence))

    accounts: dict[int, str] = {}
    for number in range(20):
        accounts.setdefault(shard_of(f"ledger.k{number}.posted"), f"k{number}")
    for account in accounts.values():
        await worked_off(account)
    asked: list[str] = []

    async def heard(message: Msg) -> None:
        asked.append(message.subject.rpartition(".")[2])

    await js.client.subscribe("$JS.API.CONSUMER.INFO.LEDGER.>", cb=heard)
    await js.client.flush()
    for _ in range(5):
        await worked_off(accounts[0])
    await js.client.flush()
    assert set(asked) == {durables[0]}
    asked.clear()
    for _ in range(5):
        await worked_off(accounts[1])
    await js.client.flush()
    assert durables[1] in asked
    assert asked.count(durables[0]) <= 2, "its last message may have been looked after"


async def test_the_floor_of_a_killed_owner_is_behind_what_it_had_settled_and_loses_nothing(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Whatever had not been settled at the floor comes again; one that fails for the first time is in work meanwhile."""
    project = await opened(make_project, nats_server.url, BY_HAND, shards=1)
    project.function("often", OFTEN)
    durable = shard_durable("shop", "post", 1, 0)
    for number in range(20):
        await post(js, f"k{number}", number)
    await post(js, "ada", 20, waits=60)
    for number in range(21, 40):
        await post(js, f"k{number}", number)
    runner = project.start("run")
    floors = f"$KV.jetrunner.floor.shop.LEDGER.{durable}"

    async def remembered() -> bool:
        floor = await js.messages("KV_jetrunner", floors)
        return bool(floor) and floor[0].json()["sequence"] == 20

    await eventually(lambda: len(project.journal("done")) == 39)
    await eventually(remembered)
    runner.kill()
    await js.api(f"CONSUMER.DELETE.LEDGER.{durable}")
    await post(js, "bob", 40)
    project.start("run")
    await eventually(lambda: noted(project, "done", "bob"))
    await eventually(lambda: has_started(project, 42))
    starts = [note["number"] for note in project.journal("start")]
    assert sorted(starts[:40]) == list(range(40))
    assert set(starts[40:]) <= set(range(20, 41))
    assert {20, 40} <= set(starts[40:])


async def test_messages_that_the_streams_limits_took_away_keep_nobody_waiting(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, BY_HAND, shards=1)
    first = project.start("run")
    durable = shard_durable("shop", "post", 1, 0)
    await eventually(lambda: js.consumer("LEDGER", durable))
    for number in range(1, 11):
        await post(js, f"k{number}", number, waits=30)
    await eventually(lambda: len(project.journal("start")) == 10)
    first.kill()
    await js.api("STREAM.PURGE.LEDGER", {"seq": 6})
    await js.api("STREAM.MSG.DELETE.LEDGER", {"seq": 8})
    await post(js, "late", 11)
    project.start("run")
    await eventually(lambda: (11, 1) in noted(project, "done", "late"))


def has_started(project: Project, number: int) -> bool:
    return len(project.journal("start")) >= number


def has_done(project: Project, number: int) -> bool:
    return len(project.journal("done")) == number


async def test_a_stream_made_anew_begins_anew(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Its messages have the numbers of others that were settled: by the owner that lives, and by one before it."""
    project = await opened(make_project, nats_server.url, BY_HAND)
    runner = project.start("run")
    for life in range(3):
        for number in range(30):
            await post(js, f"k{number % 5}", 100 * life + number)
        await eventually(partial(has_done, project, 30 * (life + 1)))
        await js.api("STREAM.DELETE.LEDGER")
        if life == 1:
            runner.terminate()
            assert await runner.ended() == 0
        await project.applied()
        if life == 1:
            runner = project.start("run")
    assert sorted(note["number"] for note in project.journal("done")) == sorted(
        100 * life + number for life in range(3) for number in range(30)
    )
