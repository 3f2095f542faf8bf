"""A gateway with no more than `runner permissions --for gateway` prints does all that it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ANSWERS = """
    from runner import reply

    @reply("quote.{number}", idempotent=True)
    async def quote(number: int) -> int:
        return number
"""
ROUTED = """
    from runner import route

    @route("PUT", "/stored/{name}", output="events.{name}")
    async def store(body: dict[str, int], name: str) -> dict[str, int]:
        return body
"""
ROUTES = """
    [[tool.jetrunner.routes]]
    path = "/quotes/{number}"
    method = "GET"
    request = "quote.{number}"

    [[tool.jetrunner.routes]]
    path = "/events/{kind}"
    publish = "events.{kind}"
    timeout = "60s"
"""
USER = """
authorization {{ users: [
  {{ user: all, password: all }}
  {{ user: edge, password: edge, permissions: {{ publish: {publish}, subscribe: {subscribe} }} }}
] }}
"""


@pytest.mark.parametrize("routed", [False, True])
async def test_they_are_enough(make_project: Callable[..., Project], tmp_path: Path, routed: bool) -> None:
    project = make_project(functions={"shop": ANSWERS, **({"web": ROUTED} if routed else {})})
    project.settings(ROUTES)
    project.stream("events", 'name = "EVENTS"\nsubjects = ["events.*"]\n')
    printed = project.runner("permissions", "--for", "gateway", "--form", "jwt")
    assert printed.code == 0, printed.stderr
    found = json.loads(printed.stdout)["nats"]
    rights = {
        side: json.dumps(found[short]["allow"]) for side, short in (("publish", "pub"), ("subscribe", "sub"))
    }
    nats, port = NatsServer(tmp_path / "server", USER.format(**rights)).start(), free_port()
    try:
        project.environment["NATS_URL"] = nats.url_as("all", "all")
        await project.applied()
        await project.start("run").seen("ready: ", within=60)
        gateway = project.start(
            "gateway", "--listen", f"127.0.0.1:{port}", NATS_URL=nats.url_as("edge", "edge")
        )
        await gateway.seen("ready: ", within=60)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert (await client.get("/quotes/7")).json() == 7
            assert (await client.post("/events/a", content=b"{}")).status_code == 202
            if routed:
                assert (await client.put("/stored/b", json={"n": 1})).status_code == 202
        assert "ermission" not in gateway.output
    finally:
        nats.stop()
