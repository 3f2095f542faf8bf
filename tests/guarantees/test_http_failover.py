"""Instances behind an Ingress are killed, and routes change, while clients ask: no GET of an idempotent function fails.

REQUEST_FAULTS=20 makes it twenty kills in the place of three.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from tests.support.httpload import Load
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FAULTS = int(os.environ.get("REQUEST_FAULTS", "3"))
EXAMPLE = Path(__file__).parents[2] / "docs" / "howto" / "ingress" / "two-services.yaml"
SERVICES = """
    import asyncio, os
    from runner import Context, reply, route

    @reply("shop.service1", idempotent=True)
    async def service1(ctx: Context) -> str:
        await asyncio.sleep(0.02)
        return f"one {os.getpid()}"

    @reply("shop.service2", idempotent=True)
    async def service2(ctx: Context) -> str:
        await asyncio.sleep(0.02)
        return "two"

    @route("GET", "/here/{number}")
    async def here(number: int) -> str:
        return "here"
"""
WEIGHTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: split}}
spec:
  hostnames: [example.com]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /split}}}}]
      backendRefs:
        - {{name: service1, port: 80, weight: {one}}}
        - {{name: service2, port: 80, weight: {two}}}
"""
MORE = """    - matches: [{path: {type: PathPrefix, value: /sometimes}}]
      backendRefs: [{name: service2, port: 80}]
"""
HOST = {"Host": "example.com"}


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"services": SERVICES}, nats=nats_server.url)


async def started(project: Project, *arguments: str) -> RunnerProcess:
    process = project.start(*(arguments or ("run",)))
    await process.seen("ready: ", within=60)
    return process


@pytest.mark.timeout(240 + 20 * FAULTS)
async def test_an_instance_killed_behind_an_ingress_costs_no_get(project: Project) -> None:
    port = free_port()
    instances = [await started(project) for _ in range(3)]
    await started(project, "gateway", "--listen", f"127.0.0.1:{port}", f"--routes={EXAMPLE}")
    load = Load(f"http://127.0.0.1:{port}", "/service1", headers=HOST)
    async with load.asking():
        for each in instances:
            await load.heard(f"one {each.pid}")
        for _ in range(FAULTS):
            killed = instances.pop(0)
            killed.kill()
            await load.more(100)
            instances.append(await started(project))
            await load.heard(f"one {instances[-1].pid}")
    print(f"{FAULTS} kills: {dict(load.statuses)}, failed: {load.failed}")
    assert load.failed == []
    assert set(load.statuses) == {200}
    assert len(load.bodies) == 3 + FAULTS, "each instance, killed or not, has answered"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gateway --routes", pytest.param("run --http", marks=pytest.mark.thorough)])
async def test_routes_that_change_under_load_cost_no_request(project: Project, how: str) -> None:
    port, routes = free_port(), project.root / "routes"
    routes.mkdir()
    (routes / "ingress.yaml").write_text(EXAMPLE.read_text())
    (routes / "split.yaml").write_text(WEIGHTS.format(one=1, two=0))
    if how == "run --http":
        project.settings('route_files = ["routes"]\n')
        edge = await started(project, "run", "--http", f"127.0.0.1:{port}")
    else:
        await started(project)
        edge = await started(project, "gateway", "--listen", f"127.0.0.1:{port}", f"--routes={routes}")
    url = f"http://127.0.0.1:{port}"
    always = Load(url, "/service1", "/split", "/service2/a", "/here", headers=HOST)
    sometimes = Load(url, "/sometimes", headers=HOST, expected=(200, 404))
    async with always.asking(), sometimes.asking(2):
        await always.more(100)
        for change, (one, two) in zip(range(1, 5), cycle([(0, 1), (1, 1), (1, 0)]), strict=False):
            text = WEIGHTS.format(one=one, two=two) + (MORE if change % 2 else "")
            written = routes / "next"
            written.write_text(text)
            written.replace(routes / "split.yaml")
            if change == 3:  # one that is wrong changes nothing
                (routes / "broken.yaml").write_text("kind: Ingress\napiVersion: networking.k8s.io/v1\n")
                await edge.seen("routes stay as they were: ")
                (routes / "broken.yaml").unlink()
            await sometimes.answered(200 if change % 2 else 404, 20)
            await always.more(100)
    print(f"{how}: {dict(always.statuses)}, {dict(sometimes.statuses)}, failed: {always.failed}")
    assert (always.failed, sometimes.failed) == ([], [])
    assert set(always.statuses) == {200}
    assert sometimes.statuses[200] > 20
    assert sometimes.statuses[404] > 20
