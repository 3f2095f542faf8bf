"""What is promised of the HTTP edge, with real processes: faults behind it, its reload and its end cost no request."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.httpload import Load
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    import asyncio
    from pathlib import Path
    from runner import Context, reply, route

    VERSION = 1
    ASKED, OPEN = Path(__file__).parents[1] / "asked", Path(__file__).parents[1] / "open"

    @reply("quote.{number}", idempotent=True)
    async def quote(number: int) -> int:
        await asyncio.sleep(0.02)
        return number

    @route("GET", "/version/{number}")
    async def version(number: int) -> int:
        await asyncio.sleep(0.02)
        return VERSION

    @route("GET", "/slow")
    async def slow() -> str:
        with ASKED.open("a") as file:
            file.write("x")
        while not OPEN.exists():
            await asyncio.sleep(0.01)
        return "done"
"""
ROUTES = """
    [[tool.jetrunner.routes]]
    path = "/quotes/{number}"
    method = "GET"
    request = "quote.{number}"
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    found = make_project(functions={"shop": SOURCE}, nats=nats_server.url)
    found.settings(ROUTES)
    return found


async def test_a_killed_instance_costs_no_get_of_an_idempotent_function(project: Project) -> None:
    port = free_port()
    instances = [project.start("run", "--except", "version", "--except", "slow") for _ in range(3)]
    gateway = project.start("gateway", "--listen", f"127.0.0.1:{port}")
    for each in (*instances, gateway):
        await each.seen("ready", within=60)
    load = Load(f"http://127.0.0.1:{port}", "/quotes")
    async with load.asking():
        await load.more(100)
        for each in instances[:2]:
            os.kill(each.pid, signal.SIGKILL)
            await load.more(150)
    assert load.failed == []
    assert load.statuses[200] >= 400


async def test_a_reload_under_load_costs_no_request(project: Project) -> None:
    port = free_port()
    dev: RunnerProcess = project.start("dev", JETRUNNER_HTTP=f"127.0.0.1:{port}")
    await dev.seen("ready in", within=60)
    load = Load(f"http://127.0.0.1:{port}", "/version")
    async with load.asking():
        await load.more(100)
        project.function("shop", SOURCE.replace("VERSION = 1", "VERSION = 2"))
        await eventually(lambda: load.bodies["2"] > 100 or bool(load.failed), within=60)
    assert load.failed == []
    assert load.bodies["1"] > 0


async def test_a_stop_answers_what_has_come(project: Project) -> None:
    port = free_port()
    gateway = project.start("gateway", "--listen", f"127.0.0.1:{port}")
    begun = project.root / "asked"
    begun.touch()
    await gateway.seen("ready", within=60)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert (await client.get("/version/1")).text == "1"
        asked = [asyncio.create_task(client.get("/slow")) for _ in range(20)]
        await eventually(lambda: begun.stat().st_size == 20)
        os.kill(gateway.pid, signal.SIGTERM)
        await gateway.seen("draining")
        (project.root / "open").touch()
        answers = [await each for each in asked]
    assert [each.text for each in answers] == ["done"] * 20
    assert {each.headers["connection"] for each in answers} == {"close"}
    await eventually(lambda: not gateway.running)
    assert gateway.code == 0
