"""What stands still is told with its reason: in the log, and by `runner status`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import reload
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAMS = {"ledger": 'name = "LEDGER"\nsubjects = ["ledger.*.posted"]'}
POST = """
    from journal import note
    from runner import consume

    @consume("ledger.{account}.posted", ordered_by="account")
    async def post(entry: dict) -> None:
        note("done", number=entry["number"])
"""


def users(denied: str) -> str:
    """An administrator, and an app that may not publish to a subject."""
    return (
        "authorization { users: [ {user: admin, password: a}, {user: app, password: b, "
        f'permissions: {{ publish: {{ deny: ["{denied}"] }} }} }} ] }}'
    )


def said(process: RunnerProcess, text: str) -> bool:
    return any(text in line for line in process.stderr)


def still(function: dict[str, Any]) -> list[str]:
    """What is told of shards, without what is refused."""
    return [line for line in function["standing"] if line.startswith("shard ")]


async def test_a_shard_that_nobody_can_take_is_told_and_goes_on_once_somebody_may(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(users("$KV.jetrunner.claim.>"))
    project = make_project(functions={"ledger": POST}, streams=STREAMS, nats=server.url_as("admin", "a"))
    await project.applied()
    first = project.start("run")
    await eventually(lambda: said(first, "owns 1 of 1 shard"))
    first.terminate()
    assert await first.ended() == 0
    process = project.start("run", NATS_URL=server.url_as("app", "b"))
    why = "shard post.0.0 has handled nothing for 5 s: it is free, and "
    await eventually(lambda: said(process, why))

    def standing() -> str:
        [function] = project.json("status")["functions"]
        [line] = still(function)
        return line

    line = await eventually(standing)
    assert line.startswith("shard post.0.0: it is free, and ")
    assert line.endswith(" has not taken it")
    assert f"post: {line}" in project.runner("status").stderr
    reload(server, users("nothing"))
    await eventually(lambda: said(process, "shard post.0.0 goes on"))
    assert still(project.json("status")["functions"][0]) == []


async def test_a_key_that_waits_for_a_record_is_told_and_goes_on_once_it_can_be_written(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(users("$KV.jetrunner.settled.>"))
    project = make_project(functions={"ledger": POST}, streams=STREAMS, nats=server.url_as("app", "b"))
    await project.applied()
    process = project.start("run")
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        await eventually(lambda: said(process, "owns 1 of 1 shard"))
        for number in range(500):
            await js.publish("ledger.ada.posted", {"number": number})
        why = "shard post.0.0 has handled nothing for 5 s: what was settled is not on record yet"
        await eventually(lambda: said(process, why))

        def is_shown() -> bool:
            [function] = project.json("status")["functions"]
            return still(function) == ["shard post.0.0: what was settled is not on record yet"]

        await eventually(is_shown)
        reload(server, users("nothing"))
        await eventually(lambda: len(project.journal("done")) == 500)
    assert [note["number"] for note in project.journal("done")] == list(range(500))
    await eventually(lambda: said(process, "shard post.0.0 goes on"))
