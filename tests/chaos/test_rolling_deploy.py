"""A rolling deploy from the previous release to this one, and back, under load: nothing lost, nothing out of order."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Instance, Ledger, streams
from tests.support.order import source
from tests.support.previous import unpack
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

AUDIT = """
    import runner
    from journal import note
    from msgspec import Struct
    from runner import Context, consume

    class Entry(Struct):
        number: int

    @consume("ledger.{account}.posted")
    async def audit(entry: Entry, ctx: Context) -> None:
        note("audit", number=entry.number, release=runner.__file__)
"""
INSTANCES = 3


class Deploy:
    """Instances of one release give way to those of another, one by one."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.kills = 0

    async def to(self, release: Path | None, *, killed: bool = False) -> None:
        """Replace every instance; the new one is ready before the old one is told to stop, or is killed."""
        for before in list(self.ledger.instances):
            after = self.ledger.add(release=release)
            await after.process.seen("ready: ", within=60)
            if killed:
                self.ledger.kill_now(before)
                self.kills += 1
            else:
                await self._stopped(before)

    async def _stopped(self, instance: Instance) -> None:
        self.ledger.instances.remove(instance)
        self.ledger.unexpected(instance)
        instance.process.terminate()
        assert await instance.process.ended(within=60) == 0, instance.process.output


async def test_the_previous_release_gives_way_to_this_one_and_comes_back(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    tmp_path: Path,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    count, keys, seconds = (60_000, 500, 100.0) if long else (6_000, 100, 20.0)
    previous = unpack(tmp_path / "previous")
    project = make_project(
        functions={"ledger": source(), "audit": AUDIT}, streams=streams(8), nats=nats_server.url
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, random.Random(seed))
    deploy = Deploy(ledger)
    for _ in range(INSTANCES):
        ledger.add(release=previous)
    await ledger.owning(8)
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        load = tasks.create_task(ledger.publish(count, keys, seconds))
        rounds = 0
        while not load.done():
            killed = rounds % 4 > 1  # there and back in good order, then there and back by SIGKILL
            await deploy.to(None, killed=killed)
            await deploy.to(previous, killed=killed)
            rounds += 2
    await ledger.settled(within=60)

    def audited() -> bool:
        return len({each["number"] for each in project.journal("audit")}) == count

    await eventually(audited, within=60)
    await ledger.close()
    found = await ledger.judge()
    again = [
        number
        for number, runs in Counter(each["number"] for each in project.journal("audit")).items()
        if runs > 1
    ]
    tell(
        f"rolling deploy: seed {seed}: {count} messages, {rounds} deploys of {INSTANCES} instances between two releases, "
        f"{deploy.kills} killed, {time.monotonic() - began:.0f} s: {found}; without order: {len(again)} run again"
    )
    assert not ledger.problems, f"seed {seed}\n{ledger.explain()}"
    releases = {str(Path(each["release"]).parents[1]) for each in project.journal("audit")}
    assert len(releases) == 2, releases
    assert str(previous) in releases
