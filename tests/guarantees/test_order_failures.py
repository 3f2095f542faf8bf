"""An ordered function's failures: counted once each, in any outage; and nothing of them ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from runner.core.identity import shard_durable
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]
STREAMS = {
    "ledger": 'name = "LEDGER"\nsubjects = ["ledger.*.posted"]',
    "audit": 'name = "AUDIT"\nsubjects = ["audit.*"]',
}
DURABLE = shard_durable("shop", "post", 0, 0)
COUNTS = "$KV.jetrunner.failures.shop.post.0.0"
TOP = """
    import asyncio
    import os
    import time
    from pathlib import Path
    from journal import note
    from runner import Context, RetryPolicy, consume
    from runner.pipeline import pipeline
    from runner.pipeline import poison
    from runner.jetstream import kv

    kv.PATIENCE_SECONDS = 0.5
    poison.CROWDED_SECONDS = pipeline.REPEAT_SECONDS = 0.2
    OPEN = Path(os.environ.get("OPEN", "open"))
"""
POST = f"""{TOP}
    @consume("ledger.{{account}}.posted", ordered_by="account", retry=RetryPolicy.fixed(0.05, attempts=3))
    async def post(entry: dict, ctx: Context) -> None:
        note("start", number=entry["number"], attempt=ctx.attempt)
        while ctx.attempt == entry.get("waits") and not OPEN.exists():
            await asyncio.sleep(0.01)
        if ctx.attempt <= entry.get("fails", 0):
            raise ValueError("not yet")
        note("done", number=entry["number"], attempt=ctx.attempt)
"""
STUCK = f"""{POST}
    @consume("audit.stuck", timeout=0.2, retry=RetryPolicy(attempts=1))
    def stuck(entry: dict) -> None:
        while not OPEN.exists():
            time.sleep(0.01)
"""
ALONE = f"""{TOP}
    @consume("ledger.{{account}}.posted", ordered_by="account")
    async def post(entry: dict) -> None:
        note("start", number=entry["number"])

    @consume("audit.alone", timeout=600, retry=RetryPolicy.fixed(0.05))
    async def alone(entry: dict, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        note("alone")
        while not OPEN.exists():
            await asyncio.sleep(0.01)
        note("ended")
"""


async def opened(make_project: Callable[..., Project], url: str, function: str = POST) -> Project:
    """A project with its streams on the server."""
    project = make_project(functions={"ledger": function}, streams=STREAMS, nats=url)
    await project.applied()
    return project


async def post(js: RawJetStream, number: int, **fields: Any) -> int:
    return await js.publish("ledger.ada.posted", {"number": number, **fields})


def noted(project: Project, what: str) -> list[tuple[int, int]]:
    """Number and attempt of the notes, in the order they were written."""
    return [(note["number"], note["attempt"]) for note in project.journal(what)]


async def counts(js: RawJetStream) -> list[int]:
    """How many failures the bucket holds of each message; 0 where that is all it says."""
    told = [message.json() for message in await js.messages("KV_jetrunner", f"{COUNTS}.>")]
    return [each["count"] if isinstance(each, dict) else int(each) for each in told]


def users(denied: str) -> str:
    """An administrator, and an app that may not publish to a subject."""
    return (
        "authorization { users: [ {user: admin, password: a}, {user: app, password: b, "
        f'permissions: {{ publish: {{ deny: ["{denied}"] }} }} }} ] }}'
    )


async def test_without_the_permission_to_purge_a_failure_is_nothing_once_its_message_is_settled(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(users("$JS.API.STREAM.PURGE.>"))
    project = await opened(make_project, server.url_as("app", "b"))
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        process = project.start("run")
        await post(js, 1, fails=1)
        await eventually(lambda: noted(project, "done") == [(1, 2)])

        async def is_nothing() -> bool:
            return await counts(js) == [0]

        await eventually(is_nothing)
        await post(js, 2, fails=1)
        await eventually(lambda: noted(project, "done") == [(1, 2), (2, 2)])
        process.terminate()
        assert await process.ended() == 0


async def test_a_failure_waits_for_the_server_to_be_counted(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    process = project.start("run")
    await post(js, 1, fails=1, waits=1)
    await eventually(lambda: noted(project, "start") == [(1, 1)])
    nats_server.kill()
    (project.root / "open").touch()
    await process.seen(r"failure 1 of message 1: no success for \d+ s")
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: noted(project, "done") == [(1, 2)])
    assert noted(project, "start") == [(1, 1), (1, 2)]
    assert process.running


async def test_a_message_settled_in_an_outage_has_failed_no_more_often(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    process = project.start("run")
    await post(js, 1, fails=1, waits=2)
    await eventually(lambda: noted(project, "start") == [(1, 1), (1, 2)])
    nats_server.kill()
    (project.root / "open").touch()
    await process.seen(r"the count of failures of message 1 cannot be deleted yet")
    await process.seen(r"LEDGER:1 could not be settled")  # what is known of its start stays, too
    await asyncio.to_thread(nats_server.start)
    await post(js, 2)
    await eventually(lambda: noted(project, "done") == [(1, 2), (2, 1)])
    await eventually(partial(js.settled, "LEDGER", DURABLE))
    assert await counts(js) == [1]
    assert process.running


async def test_one_that_cannot_run_alone_has_not_failed(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, STUCK)
    process = project.start("run")
    await eventually(partial(js.consumer, "AUDIT", "shop-stuck"))
    await js.publish("audit.stuck", {})

    async def is_abandoned() -> bool:
        return await js.count("DEADLETTERS") == 1

    await eventually(is_abandoned)
    await js.publish("$KV.jetrunner.start.shop.post.LEDGER.1", b"2")  # as two deaths leave it
    await post(js, 1, fails=1)
    await eventually(lambda: process.output.count("LEDGER:1 waits to run alone in this process") >= 3)
    (project.root / "open").touch()
    await eventually(lambda: noted(project, "done") == [(1, 2)])
    assert noted(project, "start") == [(1, 1), (1, 2)]


async def test_one_whose_start_cannot_be_recorded_has_not_failed(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(users("$KV.jetrunner.start.>"))
    project = await opened(make_project, server.url_as("app", "b"))
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        process = project.start("run")
        await post(js, 1, fails=1)
        await eventually(lambda: process.output.count("LEDGER:1 could not be settled") >= 3)
        assert await counts(js) == [1]
        server.stop()
        await asyncio.to_thread(server.start, users("nothing"))
        await eventually(lambda: noted(project, "done") == [(1, 2)])


async def test_what_waited_while_another_ran_alone_does_not_start_once_the_lease_is_over(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url, ALONE)
    async with Proxy.to(nats_server.port) as proxy:
        first = project.start("run", NATS_URL=proxy.url)
        await eventually(partial(js.consumer, "LEDGER", DURABLE))
        await js.publish("$KV.jetrunner.start.shop.alone.AUDIT.1", b"2")  # as two deaths leave it
        await js.publish("audit.alone", {})
        await eventually(lambda: project.journal("alone"))
        await post(js, 1)

        async def is_there() -> bool:
            return bool((await js.consumer("LEDGER", DURABLE))["num_ack_pending"] == 1)

        await eventually(is_there)
        second = project.start("run", OPEN="journal.py")
        await second.seen("ready")
        assert not [note for note in project.journal("start") if note["pid"] == first.pid]
        proxy.freeze()
        await eventually(lambda: project.journal("start"))
        (project.root / "open").touch()
        await eventually(lambda: any(note["pid"] == first.pid for note in project.journal("ended")))
        proxy.thaw()
        await first.seen("another instance owns shard")
        assert [note["pid"] for note in project.journal("start")] == [second.pid]
