"""Outputs of an ordered function whose server comes back with an older store."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
import asyncio
from pathlib import Path

from journal import note
from runner import consume


@consume("ledger.{account}.posted", ordered_by="account", output="balances.{account}.changed")
async def post(entry: dict) -> dict:
    note("start", n=entry["n"])
    while not Path(f"go-{entry['n']}").exists():
        await asyncio.sleep(0.01)
    note("done", n=entry["n"])
    return {"n": entry["n"]}
"""
LATE = """
from pathlib import Path

import anyio

from runner.runtime import history

look = history.look


async def look_late(connection, stream):
    while stream == "LEDGER" and Path("late").exists():
        await anyio.sleep(0.01)
    return await look(connection, stream)


history.look = look_late
"""
"""While the file `late` stands, it is not known whether the stream is the same."""
STREAMS = {
    "ledger": 'name = "LEDGER"\nsubjects = ["ledger.{account}.posted"]\n',
    "balances": 'name = "BALANCES"\nsubjects = ["balances.*.changed"]\n',
}


async def test_what_a_handler_made_while_the_server_was_away_is_not_stored_before_what_an_older_store_has_lost(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    project = make_project(functions={"ledger": SOURCE, "late": LATE}, streams=STREAMS, nats=nats_server.url)
    await project.applied()
    instance = project.start("run")
    await instance.seen("ready: ")
    for number in (1, 2):
        await js.publish("ledger.ada.posted", {"n": number})
    await eventually(lambda: [note["n"] for note in project.journal("start")] == [1])
    await asyncio.to_thread(nats_server.stop)
    await asyncio.to_thread(shutil.copytree, nats_server.store, tmp_path / "copy")
    await asyncio.to_thread(nats_server.start)
    await js.publish("ledger.bob.posted", {"n": 3})  # the older store has lost this one
    (project.root / "go-1").touch()
    await eventually(lambda: {note["n"] for note in project.journal("start")} == {1, 2, 3})
    await eventually(lambda: stored(js, [1]))
    await asyncio.to_thread(nats_server.kill)
    await asyncio.to_thread(shutil.rmtree, nats_server.store)
    await asyncio.to_thread(shutil.copytree, tmp_path / "copy", nats_server.store)
    (project.root / "late").touch()
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: sum("connected again" in line for line in instance.stderr) >= 2)
    (project.root / "go-2").touch()
    await eventually(lambda: [note["n"] for note in project.journal("done")] == [1, 2])
    await eventually(lambda: js.client.request("jetrunner.shop.status", b"", timeout=1.0))
    assert await stored(js, []), "what it has written before that answer is stored"
    (project.root / "late").unlink()
    await eventually(lambda: stored(js, [1, 2]))


async def stored(js: RawJetStream, numbers: list[int]) -> bool:
    return [each.json()["n"] for each in await js.messages("BALANCES", "balances.>")] == numbers
