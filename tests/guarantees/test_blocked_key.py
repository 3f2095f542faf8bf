"""Promise 2: a key whose handler does not end keeps its own messages waiting, in order, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.core.identity import shard_durable
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.order_faults import streams
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(60)]

WAITING = 9_000
LEDGER = """
import asyncio
import os
from pathlib import Path

from runner import Context, consume

ROOT = Path(__file__).parents[1]
DONE = os.open(ROOT / "done", os.O_APPEND | os.O_WRONLY | os.O_CREAT)

@consume("ledger.{account}.posted", ordered_by="account", timeout=60)
async def post(body: bytes, account: str, ctx: Context) -> None:
    while account == "ada" and not (ROOT / "go").exists():
        await asyncio.sleep(0.02)
    os.write(DONE, f"{account} {body[:10].decode()} {ctx.headers.get('Tenant', '-')} {len(body)}\\n".encode())
"""
DURABLE = shard_durable("shop", "post", 1, 0)


async def opened(make_project: Callable[..., Project], url: str) -> Project:
    """A ledger with one shard, whose key `ada` waits for the file `go`."""
    project = make_project(functions={"ledger": LEDGER}, streams=streams(1), nats=url)
    applied = await asyncio.to_thread(project.runner, "apply")
    assert applied.code == 0, applied.stderr
    return project


def done(root: Path, account: str) -> list[tuple[int, str, int]]:
    """Number, tenant and length of the account's messages, in the order they were done."""
    found = []
    for line in (root / "done").read_text().splitlines() if (root / "done").exists() else ():
        name, number, tenant, length = line.split()
        if name == account:
            found.append((int(number), tenant, int(length)))
    return found


def count(root: Path, account: str) -> int:
    """How many of the account's messages were done."""
    file = root / "done"
    return file.read_bytes().count(f"{account} ".encode()) if file.exists() else 0


async def test_nine_thousand_messages_behind_one_that_blocks_keep_no_other_key_waiting(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    for number in range(WAITING):
        await js.client.publish("ledger.ada.posted", b"%d" % number)
    await js.client.flush()
    project.start("run")

    async def here() -> bool:
        return int((await js.consumer("LEDGER", DURABLE))["num_ack_pending"]) == WAITING

    await eventually(here, within=20)
    for number in range(200):
        await js.publish("ledger.bob.posted" if number % 2 else f"ledger.k{number}.posted", b"%d" % number)
    await eventually(lambda: count(project.root, "bob") == 100, within=3)
    await eventually(lambda: count(project.root, "k198"), within=3)
    assert not count(project.root, "ada")
    (project.root / "go").touch()
    await eventually(lambda: count(project.root, "ada") >= WAITING, within=20)
    assert [number for number, _, _ in done(project.root, "ada")] == list(range(WAITING))
    assert [number for number, _, _ in done(project.root, "bob")] == list(range(1, 200, 2))
    await eventually(lambda: js.settled("LEDGER", DURABLE))
