"""Streams that keep only what a durable waits for: nothing confirmed is dropped because a shard had none yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PLAIN = 'name = "JOBS"\nsubjects = ["jobs.{key}"]\nretention = "interest"\n'
SHARDED = PLAIN + '[shards]\ncount = 2\nby = ["key"]\n'
FUNCTION = """
    from journal import note
    from runner import consume

    @consume("jobs.{key}", ordered_by="key")
    async def work(number: int, key: str) -> None:
        note("run", number=number)
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"jobs": FUNCTION}, streams={"jobs": SHARDED}, nats=nats_server.url)


class Publishing:
    """Publishes one message every 3 ms to changing keys, and counts what was confirmed."""

    def __init__(self, js: RawJetStream) -> None:
        self._js = js
        self._stopping = False
        self._task = asyncio.create_task(self._publish())
        self.confirmed: list[int] = []

    async def _publish(self) -> None:
        while not self._stopping:
            number = len(self.confirmed)
            await self._js.publish(f"jobs.k{number % 17}", number)
            self.confirmed.append(number)
            await asyncio.sleep(0.003)

    async def more(self, count: int) -> None:
        """Return once so many more were confirmed."""
        enough = len(self.confirmed) + count
        await eventually(lambda: len(self.confirmed) > enough)

    async def stop(self) -> None:
        """Return once nothing more is published. Not by a cancel: Python 3.11's `wait_for` may drop one."""
        self._stopping = True
        await self._task


async def ready(process: RunnerProcess) -> RunnerProcess:
    await process.seen("ready: work")
    return process


async def handled(project: Project, publishing: Publishing) -> None:
    """Everything that was confirmed has run."""
    runs = {note["number"] for note in project.journal("run")}
    missing = sorted(set(publishing.confirmed) - runs)
    assert not missing, f"{len(missing)} of {len(publishing.confirmed)} were lost: {missing[:20]}"


async def all_handled(project: Project, publishing: Publishing) -> None:
    await publishing.stop()

    async def done() -> bool:
        await handled(project, publishing)
        return True

    await eventually(done)


async def test_what_is_published_while_the_shards_change_is_not_dropped(
    project: Project, js: RawJetStream
) -> None:
    await project.applied()
    await ready(project.start("run"))
    publishing = Publishing(js)
    for count in (8, 3, 16):
        await publishing.more(50)
        resized = await asyncio.to_thread(project.runner, "shard", "resize", "JOBS", str(count))
        assert resized.code == 0, resized.stderr
    await all_handled(project, publishing)


async def test_what_comes_before_a_shard_has_an_owner_waits_for_it(
    project: Project, js: RawJetStream
) -> None:
    """All durables stand once one instance is ready, not each when its shard is taken."""
    project.stream("jobs", SHARDED.replace("count = 2", "count = 64"))
    await project.applied()
    await ready(project.start("run"))
    publishing = Publishing(js)
    await eventually(lambda: len(publishing.confirmed) > 200)
    await all_handled(project, publishing)


async def test_shards_that_are_added_later_lose_nothing_that_is_published_before_the_next_run(
    project: Project, js: RawJetStream
) -> None:
    project.stream("jobs", PLAIN)
    await project.applied()
    process = await ready(project.start("run"))
    await js.publish("jobs.k0", -1)
    await eventually(lambda: project.journal("run"))
    process.terminate()
    await process.ended()

    async def idle() -> bool:
        return not (await js.consumer("JOBS", "shop-work-0-0"))["num_waiting"]

    await eventually(idle)
    project.stream("jobs", SHARDED)
    await project.applied()
    publishing = Publishing(js)
    await eventually(lambda: len(publishing.confirmed) > 50)
    await publishing.stop()
    await ready(project.start("run"))
    await all_handled(project, publishing)


async def test_apply_warns_of_what_is_gone_before_the_first_run(project: Project) -> None:
    applied = await asyncio.to_thread(project.runner, "apply")
    assert applied.code == 0
    assert "before the first `runner run` is gone for work" in applied.stderr
    process = await ready(project.start("run"))
    applied = await asyncio.to_thread(project.runner, "apply")
    assert "is gone for" not in applied.stderr
    assert process.running
