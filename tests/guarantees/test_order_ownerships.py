"""Strict order where a handler outlives its shard, or its stream, in the same process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from runner.core.identity import shard_durable
from runner.core.sharding import Sharding
from runner.ordered.recorded import SettlementRecord
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.member import living
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]
STREAMS = {
    "ledger": 'name = "LEDGER"\nsubjects = ["ledger.*.posted"]',
    "audit": 'name = "AUDIT"\nsubjects = ["audit.*"]',
}
DURABLE = shard_durable("shop", "post", 0, 0)
LOST = "another instance owns shard"
TOP = """
    import asyncio
    import time
    from pathlib import Path
    from journal import note
    from runner import consume

    def closed(entry: dict) -> bool:
        return "gate" in entry and not Path(entry["gate"]).exists()
"""
STUBBORN = f"""{TOP}
    @consume("ledger.{{account}}.posted", ordered_by="account", concurrency=4)
    async def post(entry: dict) -> None:
        note("start", number=entry["number"])
        while closed(entry):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                note("ignored", number=entry["number"])
        note("end", number=entry["number"])
"""
FAILING = f"""{TOP}
    from runner import RetryPolicy

    @consume("ledger.{{account}}.posted", ordered_by="account", concurrency=2000,
             retry=RetryPolicy.fixed(600.0, attempts=9))
    async def post(entry: dict) -> None:
        if not entry["number"]:
            note("failed")
            raise ValueError("not yet")
        note("end", number=entry["number"])
"""
COUNTING = """
    import asyncio
    from journal import note
    from runner.jetstream.wire import Wire

    answer, naks = Wire.answer, []

    def counted(wire, reply, verb):
        if verb == b"-NAK":
            if not naks:
                asyncio.get_running_loop().call_soon(ended)
            naks.append(reply)
        answer(wire, reply, verb)

    def ended():
        note("turn", number=len(naks))
        naks.clear()

    Wire.answer = counted
"""
WAITS_FOR_ANSWERS = f"""{STUBBORN.replace("concurrency=4", "concurrency=1")}
    from runner.cluster.claims import Claims

    confirm = Claims.confirm

    async def late(claims, shard, held):
        while Path("late").exists():
            note("asked")
            await asyncio.sleep(0.01)
        return await confirm(claims, shard, held)

    Claims.confirm = late

    @consume("audit.*")
    async def audit() -> None:
        note("audited")
"""
LOST_AT_ONCE = """
    import asyncio
    from pathlib import Path
    from journal import note
    from runner.ordered.shard import Shard
    from runner.cluster.ownership import Ownership

    init, open_, process = Ownership.__init__, Shard.open, []

    def remembered(shards, *arguments):
        process.append(shards)
        init(shards, *arguments)

    async def lost_at_once(shard, ownership):
        if Path("contested").exists():
            note("contested")
            asyncio.get_running_loop().call_soon(process[0]._lose, shard.name)
        await open_(shard, ownership)

    Ownership.__init__, Shard.open = remembered, lost_at_once
"""
CONFIRMED_LATE = """
    import asyncio
    from journal import note
    from runner.cluster.claims import Claims
    from runner.cluster.generations import Generations

    confirmed, take, known = Generations.confirmed, Claims.take, []

    async def remembered(claims, *arguments):
        known.append(claims.known)
        return await take(claims, *arguments)

    async def late(generations, function, generation):
        found = await confirmed(generations, function, generation)
        while known[0]["post.0.0"].claim.owner != "other":
            note("taken")
            await asyncio.sleep(0.01)
        return found

    Claims.take, Generations.confirmed = remembered, late
"""
FORGETFUL = """
    from pathlib import Path
    from runner.jetstream.wire import Wire

    ack = Wire.ack

    def lost(wire, reply):
        if not Path("forgetful").exists():
            ack(wire, reply)

    Wire.ack = lost
"""
SELDOM = """
    from runner.process import rounds
    rounds.REMEMBER_SECONDS = 600.0
"""
THREAD = f"""{TOP}
    @consume("ledger.{{account}}.posted", ordered_by="account", concurrency=4)
    def post(entry: dict) -> None:
        note("start", number=entry["number"])
        while closed(entry):
            time.sleep(0.01)
        note("end", number=entry["number"])
"""


async def opened(make_project: Callable[..., Project], url: str, function: str, **others: str) -> Project:
    """A project with its streams on the server."""
    project = make_project(functions={"ledger": function, **others}, streams=STREAMS, nats=url)
    await project.applied()
    return project


async def post(js: RawJetStream, account: str, number: int, **fields: Any) -> int:
    return await js.publish(f"ledger.{account}.posted", {"number": number, **fields})


def has(project: Project, what: str, number: int) -> bool:
    return any(note["number"] == number for note in project.journal(what))


def lost(runner: RunnerProcess, times: int) -> bool:
    return runner.output.count(LOST) == times


def story(project: Project, *numbers: int) -> list[tuple[str, int]]:
    """Starts and ends of these messages, as they came about."""
    return [
        (note["what"], note["number"])
        for note in project.journal()
        if note["what"] != "ignored" and note.get("number") in numbers
    ]


@pytest.mark.parametrize("losses", [1, 2])
@pytest.mark.parametrize("function", [STUBBORN, THREAD], ids=["coroutine", "thread"])
async def test_a_handler_that_outlives_its_shard_keeps_its_keys_lane_when_the_shard_comes_back(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    function: str,
    losses: int,
) -> None:
    project = await opened(make_project, nats_server.url, function)
    runner = project.start("run")
    await post(js, "ada", 1, gate="open")
    await post(js, "ada", 2)
    await eventually(partial(has, project, "start", 1))
    for loss in range(1, losses + 1):
        # Somebody takes it who is not alive: this process loses it, and takes it again.
        claim = {"owner": "ghost", "epoch": 50 * loss, "since": 0.0}
        await js.publish("$KV.jetrunner.claim.shop.post.0.0", claim)
        await eventually(partial(lost, runner, loss))
        # What comes later starts after everything that was left: 1 might have started again by then.
        await post(js, "bob", 10 * loss)
        await eventually(partial(has, project, "end", 10 * loss))
    assert story(project, 1, 2) == [("start", 1)]
    (project.root / "open").touch()
    await eventually(partial(has, project, "end", 2))
    one, two = [("start", 1), ("end", 1)], [("start", 2), ("end", 2)]
    assert story(project, 1, 2) == [*one, *one, *two], "nobody saw to the first run's settlement"


async def test_a_handler_of_a_stream_that_was_made_anew_does_not_ack_another_message_of_its_number(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, STUBBORN)
    project.start("run")
    assert await post(js, "ada", 1, gate="old") == 1
    await eventually(partial(has, project, "start", 1))
    await js.api("STREAM.DELETE.LEDGER")
    await js.create("LEDGER", ["ledger.*.posted"])
    assert await post(js, "bob", 2, gate="new") == 1
    await eventually(partial(has, project, "start", 2))
    (project.root / "old").touch()
    await eventually(partial(has, project, "end", 1))
    await post(js, "eve", 3)
    await eventually(partial(has, project, "end", 3))

    async def pending(number: int) -> bool:
        return bool((await js.consumer("LEDGER", DURABLE))["num_ack_pending"] == number)

    await eventually(partial(pending, 1))
    (project.root / "new").touch()
    await eventually(partial(pending, 0))
    assert has(project, "end", 2)


@pytest.mark.since("2.14", "feature_flags")
async def test_acks_of_the_form_with_a_domain_cast_no_doubt_on_what_comes(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> None:
    server = make_server("feature_flags { js_ack_fc_v2: true }")
    async with RawJetStream.connect(server.url) as js:
        project = await opened(make_project, server.url, STUBBORN)
        project.start("run")
        asked: list[str] = []

        async def heard(message: Msg) -> None:
            asked.append(message.subject)

        await post(js, "ada", 0)
        await eventually(partial(has, project, "end", 0))
        await js.client.subscribe(f"$JS.API.CONSUMER.INFO.LEDGER.{DURABLE}", cb=heard)
        await js.client.flush()
        for number in range(1, 31):
            await post(js, "ada", number)
            await eventually(partial(has, project, "end", number))
        await js.client.flush()
    assert len(asked) < 10, "it is asked what it holds when something may be missing, not at each message"


async def test_each_hand_over_saves_its_floor(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(
        functions={"ledger": STUBBORN, "seldom": SELDOM}, streams=streams(2), nats=nats_server.url
    )
    await project.applied()
    project.start("run")

    async def owners() -> list[str]:
        claims = [await js.messages("KV_jetrunner", f"$KV.jetrunner.claim.shop.post.1.{n}") for n in (0, 1)]
        return [claim[-1].json()["owner"] for claim in claims]

    async def all_owned() -> bool:
        return all(await owners())

    async def free() -> list[int]:
        return [shard for shard, owner in enumerate(await owners()) if not owner]

    async def saved(shard: int, sequence: int) -> bool:
        durable = shard_durable("shop", "post", 1, shard)
        floor = await js.messages("KV_jetrunner", f"$KV.jetrunner.floor.shop.LEDGER.{durable}")
        return bool(floor) and bool(floor[-1].json()["sequence"] == sequence)

    account: dict[int, str] = {}
    for number in range(20):
        account.setdefault(Sharding(1, 2, (1,)).shard_of(f"ledger.k{number}.posted"), f"k{number}")
    for ownership in range(3):
        await eventually(all_owned)
        # Another joins, takes its share, and leaves; whichever shard that is, its last message is above the floor.
        last = {shard: await post(js, account[shard], 10 * ownership + shard) for shard in (0, 1)}
        await eventually(partial(has, project, "end", 10 * ownership))
        await eventually(partial(has, project, "end", 10 * ownership + 1))
        async with living(nats_server, f"other{ownership}") as other:
            (shard, *_) = await eventually(free)
            await eventually(partial(saved, shard, last[shard]))
            await other.publish("jetrunner.shop.members", json.dumps({"left": f"other{ownership}"}).encode())
            await other.flush()
            await js.api(
                "STREAM.PURGE.KV_jetrunner", {"filter": f"$KV.jetrunner.member.shop.other{ownership}"}
            )


async def test_what_comes_while_the_shards_of_a_stream_made_anew_begin_anew_is_worked_off(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """The failures of the old stream's messages are cleared meanwhile, and that takes its time."""
    project = await opened(make_project, nats_server.url, FAILING)
    project.start("run")
    for number in range(1500):
        await js.client.publish(f"ledger.bad{number}.posted", b'{"number": 0}')
    await eventually(lambda: len(project.journal("failed")) == 1500)
    await js.api("STREAM.DELETE.LEDGER")
    await js.create("LEDGER", ["ledger.*.posted"])
    await eventually(lambda: js.consumer("LEDGER", DURABLE))
    for number in range(1, 101):
        await post(js, f"k{number % 5}", number)
    await eventually(lambda: len(project.journal("end")) == 100)


async def test_a_shard_is_handed_over_once_the_server_has_said_which_acks_it_knows(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """An early ack was lost, and the server is silent while its shard is handed over: a late run would break the order."""
    async with Proxy.to(nats_server.port) as proxy:
        project = await opened(make_project, proxy.url, STUBBORN, forgetful=FORGETFUL)
        (project.root / "forgetful").touch()
        first = project.start("run", "--log-level", "debug")
        await post(js, "a", 1)
        await post(js, "a", 2, gate="open")
        await eventually(partial(has, project, "start", 2))
        (project.root / "forgetful").unlink()
        (project.root / "open").touch()

        async def record() -> tuple[int, SettlementRecord]:
            last = (await js.messages("KV_jetrunner", "$KV.jetrunner.settled.>"))[-1]
            return last.sequence, msgspec.msgpack.decode(last.body, type=SettlementRecord)

        early, _ = await record()
        number = 2
        while (await record())[1].first <= early:  # until what was said of message 1 counts no more
            number += 2
            await post(js, "b", number - 1)
            await post(js, "b", number)
            await eventually(partial(has, project, "end", number))
        assert (await js.consumer("LEDGER", DURABLE))["ack_floor"]["stream_seq"] == 0
        proxy.freeze()
        first.terminate()
        await first.seen("is not handed over before its acks are counted")
        proxy.thaw()
        assert await first.ended(within=60) == 0
        project.start("run")
        await post(js, "a", 0)
        await eventually(partial(has, project, "end", 0))
    assert [each for each in story(project, 0, 1, 2) if each[0] == "start"] == [
        ("start", 1),
        ("start", 2),
        ("start", 0),
    ]


async def test_a_shard_that_is_lost_at_the_beginning_of_its_tenure_starts_nothing(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, STUBBORN, contested=LOST_AT_ONCE)
    (project.root / "contested").touch()
    await post(js, "a", 1)
    project.start("run")
    await eventually(lambda: len(project.journal("contested")) > 3)
    assert not project.journal("start")
    (project.root / "contested").unlink()
    await eventually(partial(has, project, "end", 1))


async def test_a_shard_that_another_has_taken_before_its_tenure_began_starts_nothing(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, STUBBORN, late=CONFIRMED_LATE)
    await post(js, "a", 1)
    runner = project.start("run", "--log-level", "debug")
    await eventually(lambda: project.journal("taken"))
    key = "$KV.jetrunner.claim.shop.post.0.0"
    claim = (await js.messages("KV_jetrunner", key))[-1].json()
    async with living(nats_server, "other"):
        await js.client.publish(
            key, json.dumps({**claim, "owner": "other", "epoch": claim["epoch"] + 1}).encode()
        )
        await js.client.flush()
        await runner.seen("owns 0 of 1 shard")
        assert not project.journal("start")


async def test_an_instance_that_has_settled_nothing_ends_at_once_though_the_server_is_gone(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = await opened(make_project, nats_server.url, STUBBORN)
    runner = project.start("run")
    await runner.seen("post: owns 1 of 1 shard")
    await asyncio.to_thread(nats_server.stop)
    runner.terminate()
    assert await runner.ended(within=60) == 0


async def test_a_takeover_asks_for_what_was_left_in_many_turns_of_the_loop(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Between the message in work and the last one of its shard stand those of the other shard."""
    project = make_project(
        functions={"ledger": STUBBORN, "counting": COUNTING}, streams=streams(2), nats=nats_server.url
    )
    await project.applied()
    account: dict[int, str] = {}
    for number in range(20):
        account.setdefault(Sharding(1, 2, (1,)).shard_of(f"ledger.k{number}.posted"), f"k{number}")
    first = project.start("run")
    await post(js, account[0], 1, gate="open")
    await eventually(partial(has, project, "start", 1))
    for _ in range(20_000):
        await js.client.publish(f"ledger.{account[1]}.posted", b'{"number": 3}')
    await post(js, account[0], 2)
    durable = shard_durable("shop", "post", 1, 0)

    async def delivered() -> bool:
        return bool((await js.consumer("LEDGER", durable))["delivered"]["stream_seq"] > 20_000)

    await eventually(delivered)
    first.kill()
    (project.root / "open").touch()
    project.start("run")
    await eventually(partial(has, project, "end", 2))
    turns = [note["number"] for note in project.journal("turn")]
    assert sum(turns) > 20_000
    assert max(turns) < 5_000


async def test_failures_of_messages_below_the_floor_are_forgotten_at_a_takeover(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Their owner could not remove them, when it had settled their messages."""
    project = await opened(make_project, nats_server.url, STUBBORN)
    first = project.start("run")
    sequence = await post(js, "ada", 1)
    await eventually(partial(has, project, "end", 1))
    first.terminate()
    assert await first.ended() == 0
    counts = "$KV.jetrunner.failures.shop.post.0.0"
    await js.publish(f"{counts}.{sequence}", b"2")
    await js.publish(f"{counts}.{sequence + 1}", b"2")
    project.start("run")

    async def left() -> list[str]:
        return [message.subject for message in await js.messages("KV_jetrunner", f"{counts}.>")]

    async def is_forgotten() -> bool:
        return await left() == [f"{counts}.{sequence + 1}"]

    await eventually(is_forgotten)


async def test_what_stands_in_the_queue_does_not_start_before_it_is_known_whose_its_shard_is(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, WAITS_FOR_ANSWERS)
    runner = project.start("run")
    await post(js, "ada", 1, gate="open")
    await eventually(partial(has, project, "start", 1))
    await post(js, "bob", 2)  # its lane is free, and no slot is
    await post(js, "ada", 3)
    (project.root / "late").touch()
    await js.publish("$KV.jetrunner.claim.shop.post.0.0", {"owner": "ghost", "epoch": 50, "since": 0.0})
    await eventually(lambda: project.journal("asked"))
    (project.root / "open").touch()
    await eventually(partial(has, project, "end", 1))
    await js.client.publish("audit.one", b"")
    await eventually(lambda: project.journal("audited"))
    assert not has(project, "start", 2)
    (project.root / "late").unlink()
    await eventually(partial(has, project, "end", 3))
    assert runner.output.count(LOST) == 1
    assert story(project, 2) == [("start", 2), ("end", 2)]
