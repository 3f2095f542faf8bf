"""Settlements that could not be told to the server, since the lease of their instance had run out for a moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
import os
import time
from pathlib import Path

from msgspec import Struct

from runner import Context, consume

JOURNAL = os.open(Path(__file__).parents[1] / "order.log", os.O_APPEND | os.O_WRONLY | os.O_CREAT)


class Entry(Struct):
    number: int
    blocks: float = 0.0


@consume("ledger.{account}.posted", ordered_by="account")
async def post(entry: Entry, account: str, ctx: Context) -> None:
    time.sleep(entry.blocks)  # nothing else runs meanwhile, as where the machine is overloaded
    os.write(JOURNAL, f"{account} {entry.number}\\n".encode())
"""
LEASE_SECONDS = 3.0


async def test_what_was_settled_while_the_lease_had_run_out_is_told_once_it_goes_on(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """The next owner would run it again, behind later ones of its key: no record of a settlement counts for ever."""
    project = make_project(functions={"ledger": SOURCE}, streams=streams(1), nats=nats_server.url)
    await project.applied()
    instance = project.start("run")
    await instance.seen("ready: ")
    journal = project.root / "order.log"
    # Longer than a lease lasts, and shorter than the bucket keeps it: nobody buries it, and its renewal is taken.
    await js.publish("ledger.a.posted", {"number": 1, "blocks": LEASE_SECONDS + 0.1})
    await js.publish("ledger.a.posted", {"number": 2})
    await eventually(lambda: journal.exists() and "a 2\n" in journal.read_text())
    await eventually(lambda: js.settled("LEDGER", "shop-post-1-0"))
    # Whoever stands still for longer yet loses the lease, and may run them again.
    before = journal.read_text()
    assert list(dict.fromkeys(before.splitlines())) == ["a 1", "a 2"]
    instance.kill()
    await project.start("run").seen("ready: ")
    await js.publish("ledger.a.posted", {"number": 3})
    await eventually(lambda: "a 3" in journal.read_text())
    assert journal.read_text() == before + "a 3\n"
