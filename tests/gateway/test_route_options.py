"""What a route says of its requests holds whatever it leads to: its timeout, and which bodies its function reads."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    import asyncio
    from collections.abc import AsyncIterator
    from runner import reply, route

    @route("GET", "/slow/itself")
    async def slow() -> str:
        await asyncio.sleep(30)
        return "done"

    @route("GET", "/ticks/itself")
    async def ticks() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0.4 if number else 0.01)
            yield number

    @reply("orders")
    async def orders(body: dict[str, int]) -> dict[str, int]:
        return body

    @reply("files")
    async def files(body: bytes) -> str:
        return f"{len(body)} bytes"

    @reply("nothing")
    async def nothing() -> str:
        return "nothing was read"
"""
MANIFEST = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, annotations: {jetrunner/timeout: 0.5s}}
spec:
  rules:
    - http:
        paths:
          - {path: /slow, pathType: Exact, backend: {service: {name: slow}}}
          - {path: /ticks, pathType: Exact, backend: {service: {name: ticks}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: orders}
spec:
  rules:
    - http:
        paths:
          - {path: /orders, pathType: Exact, backend: {service: {name: orders}}}
"""
SETTINGS = """
    route_files = ["shop.yaml"]
    [[tool.jetrunner.routes]]
    path = "/stored"
    publish = "stored.here"
    timeout = "0.5s"
    [[tool.jetrunner.routes]]
    path = "/files"
    request = "files"
    [[tool.jetrunner.routes]]
    path = "/nothing"
    request = "nothing"
"""


async def started(make_project: Callable[..., Project], url: str) -> tuple[RunnerProcess, str]:
    project = make_project(functions={"shop": SHOP}, nats=url)
    project.settings(SETTINGS)
    project.stream("stored", 'name = "STORED"\nsubjects = ["stored.*"]\n')
    (project.root / "shop.yaml").write_text(MANIFEST)
    await project.applied()
    running = project.start("run", "--http", "127.0.0.1:0")
    line = await running.seen(r"HTTP at http://\S+:\d+")
    await running.seen("ready: ", within=60)
    return running, line.partition("HTTP at ")[2].split(": ")[0]


async def test_the_timeout_of_a_manifest_holds_for_a_function_with_route(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    _, address = await started(make_project, nats_server.url)
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        began = time.monotonic()
        late = await client.get("/slow")
        assert late.status_code == 504
        assert 0.4 < time.monotonic() - began < 15, "the handler takes 30 s"
        for _ in range(3):  # whoever stands still for a moment makes one late, and not three
            events = await client.get("/ticks")  # the first comes in time, and the rest has its own
            if "event: error" not in events.text:
                break
        assert events.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_body_of_another_kind_is_refused_where_the_function_is_known_to_read_json(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    _, address = await started(make_project, nats_server.url)
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        form = await client.post("/orders", data={"cents": "1"})
        assert (form.status_code, form.headers["content-type"]) == (415, "application/problem+json")
        assert (
            await client.post("/orders", content=b'{"cents": 1}', headers={"Content-Type": "text/plain"})
        ).status_code == 415
        assert (await client.post("/orders", content=b'{"cents": 1}')).json() == {"cents": 1}
        assert (await client.post("/orders", json={"cents": 1})).json() == {"cents": 1}
        assert (await client.post("/files", data={"cents": "1"})).text == "7 bytes"
        assert (await client.post("/nothing", data={"cents": "1"})).status_code == 200


async def test_the_timeout_of_a_route_into_a_stream_holds(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    async with Proxy.to(nats_server.port) as proxy:
        _, address = await started(make_project, proxy.url)
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def stored() -> bool:  # within half a second, unless somebody stands still
                return (await client.post("/stored", json={})).status_code == 202

            await eventually(stored)
            took: list[float] = []
            while not took or (took[-1] >= 2.5 and len(took) < 3):  # without it a route waits 3 s each time
                proxy.freeze()
                began = time.monotonic()
                late = await client.post("/stored", json={})
                took.append(time.monotonic() - began)
                proxy.thaw()
                assert late.status_code == 503
                assert "it may have the message" in late.json()["detail"]
            assert min(took) > 0.4
            assert took[-1] < 2.5, took
