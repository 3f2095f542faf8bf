"""What is lost with an older store runs again, also where nothing was published since it was copied: the stream itself is the same."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
import asyncio
from pathlib import Path

from journal import note
from runner import Context, Reject, consume


@consume("ledger.{account}.posted", %s)
async def post(entry: dict, ctx: Context) -> dict | None:
    note("start", n=entry["n"])
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    note("done", n=entry["n"])
    if entry.get("bad"):
        raise Reject("no such account")
    if entry.get("twice"):
        ctx.publish("balances.ada.changed", {"n": entry["n"]})
        ctx.publish("mails.ada", {"n": entry["n"]})
        return None
    return {"n": entry["n"]}
"""
ORDERED = 'ordered_by="account", output="balances.{account}.changed"'
UNORDERED = 'output="balances.{account}.changed"'
STREAMS = {
    "ledger": 'name = "LEDGER"\nsubjects = ["ledger.{account}.posted"]\n',
    "balances": 'name = "BALANCES"\nsubjects = ["balances.*.changed"]\n',
    "mails": 'name = "MAILS"\nsubjects = ["mails.*"]\nmax_msgs = 1\ndiscard = "new"\n',
}


class Store:
    """The server's store, copied once the first message runs, and put back later."""

    def __init__(self, server: NatsServer, copy: Path) -> None:
        self._server = server
        self._copy = copy

    async def save(self) -> None:
        """The server is stopped meanwhile."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.to_thread(shutil.copytree, self._server.store, self._copy)
        await asyncio.to_thread(self._server.start)

    async def put_back(self) -> None:
        """The server is killed and has its older store again."""
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(shutil.rmtree, self._server.store)
        await asyncio.to_thread(shutil.copytree, self._copy, self._server.store)
        await asyncio.to_thread(self._server.start)


@pytest.fixture
def store(nats_server: NatsServer, tmp_path: Path) -> Store:
    return Store(nats_server, tmp_path / "copy")


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"ledger": SOURCE % ORDERED}, streams=STREAMS, nats=nats_server.url)


async def copied(project: Project, store: Store, js: RawJetStream, *entries: dict[str, Any]) -> RunnerProcess:
    """An instance that has these messages; the store was copied while it ran the first of them, which may go on now."""
    instance = project.start("run")
    await instance.seen("ready: ")
    for entry in entries:
        await js.publish("ledger.ada.posted", entry)
    await eventually(lambda: [note["n"] for note in project.journal("start")] == [1])
    await store.save()
    (project.root / "go").touch()
    return instance


async def test_outputs_that_an_older_store_has_lost_are_stored_again(
    project: Project, store: Store, js: RawJetStream
) -> None:
    await project.applied()
    instance = await copied(project, store, js, {"n": 1}, {"n": 2}, {"n": 3})
    await eventually(lambda: stored(js, [1, 2, 3]))
    await eventually(lambda: settled(js))
    await store.put_back()
    await eventually(lambda: stored(js, [1, 2, 3]))
    await eventually(lambda: settled(js))
    assert [note["n"] for note in project.journal("done")] == [1, 2, 3, 1, 2, 3]
    assert "stream BALANCES has lost what was stored at" in instance.output


async def test_so_are_those_of_the_owner_before(project: Project, store: Store, js: RawJetStream) -> None:
    await project.applied()
    first = await copied(project, store, js, {"n": 1}, {"n": 2}, {"n": 3})
    await eventually(lambda: stored(js, [1, 2, 3]))
    await eventually(lambda: js.messages("KV_jetrunner", "$KV.jetrunner.settled.>"))
    first.kill()
    second = project.start("run")
    await second.seen("owns 1 of 1 shard")
    await eventually(lambda: settled(js))
    await store.put_back()
    await eventually(lambda: stored(js, [1, 2, 3]))
    await eventually(lambda: settled(js))


async def test_so_are_dead_letters(project: Project, store: Store, js: RawJetStream) -> None:
    await project.applied()
    await copied(project, store, js, {"n": 1, "bad": True})
    await eventually(lambda: letters(js, 1))
    await eventually(lambda: settled(js))
    await store.put_back()
    await eventually(lambda: letters(js, 1))
    await eventually(lambda: settled(js))


async def test_so_is_the_first_of_two_outputs_without_order_while_the_second_waits(
    make_project: Callable[..., Project], nats_server: NatsServer, store: Store, js: RawJetStream
) -> None:
    project = make_project(functions={"ledger": SOURCE % UNORDERED}, streams=STREAMS, nats=nats_server.url)
    await project.applied()
    await js.publish("mails.bob", {})
    instance = await copied(project, store, js, {"n": 1, "twice": True})
    await eventually(lambda: stored(js, [1]))
    await store.put_back()
    await eventually(lambda: sum("connected again" in line for line in instance.stderr) >= 2)
    await js.api("STREAM.PURGE.MAILS")
    await eventually(lambda: settled(js))
    assert await stored(js, [1]), "its message is acknowledged without it"
    assert len(await js.messages("MAILS")) == 1


async def test_nothing_runs_again_after_a_server_was_killed_whose_store_is_whole(
    project: Project, nats_server: NatsServer, js: RawJetStream
) -> None:
    await project.applied()
    (project.root / "go").touch()
    instance = project.start("run")
    await instance.seen("ready: ")
    for number in (1, 2, 3):
        await js.publish("ledger.ada.posted", {"n": number})
    await eventually(lambda: stored(js, [1, 2, 3]))
    await js.api("STREAM.PURGE.BALANCES", {"filter": "balances.>"})
    await asyncio.to_thread(nats_server.kill)
    await asyncio.to_thread(nats_server.start)
    await js.publish("ledger.ada.posted", {"n": 4})
    await eventually(lambda: stored(js, [4]))
    await eventually(lambda: settled(js))
    assert [note["n"] for note in project.journal("done")] == [1, 2, 3, 4]


async def stored(js: RawJetStream, numbers: list[int]) -> bool:
    return [each.json()["n"] for each in await js.messages("BALANCES", "balances.>")] == numbers


async def letters(js: RawJetStream, count: int) -> bool:
    return len(await js.messages("DEADLETTERS")) == count


async def settled(js: RawJetStream) -> bool:
    infos = [await js.consumer("LEDGER", name) for name in await js.consumers("LEDGER")]
    return all(info["num_pending"] == 0 and info["num_ack_pending"] == 0 for info in infos)
