"""The connection is lost while `runner run` starts: it goes on once it is back, else NATS is unreachable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    import asyncio, os
    from journal import note
    from runner import consume, lifespan

    @lifespan
    async def started():
        note("began")
        while not os.path.exists("go_on"):
            await asyncio.sleep(0.02)
        yield None

    @consume("orders.{id}", ordered_by="id")
    async def work(order: dict) -> None:
        note("run")
"""


class Starting:
    """A runner that has begun to start, and whose connection is lost."""

    def __init__(self, proxy: Proxy, project: Project, process: RunnerProcess) -> None:
        self.proxy = proxy
        self.project = project
        self.process = process


@pytest.fixture
async def starting(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]
) -> AsyncIterator[Starting]:
    await js.create("ORDERS", ["orders.*"])
    async with Proxy.to(nats_server.port) as proxy:
        project = make_project(functions={"work": SOURCE}, nats=proxy.url)
        process = project.start("run", NATS_URL=proxy.url)
        await eventually(lambda: project.journal("began"))
        await proxy.cut(refuse=True)
        await process.seen("connection to .* lost")
        (project.root / "go_on").touch()
        yield Starting(proxy, project, process)


async def test_it_starts_once_the_connection_is_back(starting: Starting, js: RawJetStream) -> None:
    tried = starting.proxy.connections
    await eventually(lambda: starting.proxy.connections >= tried + 3)
    await starting.proxy.mend()
    await starting.process.seen("ready: work")
    await js.publish("orders.1", {})
    await eventually(lambda: starting.project.journal("run"))


async def test_nats_is_unreachable_when_it_does_not_come_back(starting: Starting) -> None:
    assert await starting.process.ended(within=60) == 3, starting.process.output
    assert "error: the connection to NATS was lost, and has not come back" in starting.process.output
