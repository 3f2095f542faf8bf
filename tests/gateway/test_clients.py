"""Who asks, as the connection and the proxies before it tell; and who guesses keys, or is refused, and is found in the log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.rawhttp import connected
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

KEY = "k-7f3a9c0d51e24b68"
MINE = """
    from runner import route

    @route("GET", "/mine", auth="partners")
    async def mine() -> str:
        return "yours"
"""
SETTINGS = """
    http_auth_failures = 2
    http_trusted_proxies = ["127.0.0.1"]
    route_files = ["moved.yaml"]
    [tool.jetrunner.auth.partners]
    kind = "api_key"
    keys_env = "PARTNERS"
"""
MOVED = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: moved}
spec:
  rules:
    - matches: [{path: {type: Exact, value: /moved}}]
      filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example.com}}]
"""


@asynccontextmanager
async def gateway(
    make_project: Callable[..., Project], server: NatsServer, settings: str = SETTINGS
) -> AsyncIterator[tuple[httpx.AsyncClient, RunnerProcess]]:
    project = make_project(functions={"mine": MINE}, nats=server.url)
    project.settings(settings)
    (project.root / "moved.yaml").write_text(MOVED)
    edge = project.start("gateway", "--listen", "127.0.0.1:0", PARTNERS=f"acme={KEY}")
    address = (await edge.seen(r"HTTP at http://\S+:\d+")).partition("HTTP at ")[2].split(": ")[0]
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        yield client, edge


def access(edge: RunnerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in edge.stderr if line.startswith("{")]


async def test_who_guesses_keys_has_to_wait_and_others_do_not(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    async with gateway(make_project, nats_server) as (client, edge):

        async def asked(key: str | None, client_address: str) -> httpx.Response:
            headers = {"X-Forwarded-For": f"10.9.9.9, {client_address}"}
            return await client.get("/mine", headers=headers | ({"X-Api-Key": key} if key else {}))

        for _ in range(20):  # who shows nothing guesses nothing
            assert (await asked(None, "1.1.1.1")).status_code == 401
        guessed = [(await asked(f"guess-number-{number:06}", "1.1.1.1")).status_code for number in range(8)]
        assert guessed == [401] * 2 + [429] * 6
        refused = await asked(KEY, "1.1.1.1")
        assert refused.status_code == 429, "the right key says nothing then"
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await asked(KEY, "2.2.2.2")).text == "yours"
        assert (await asked(KEY, "10.9.9.9")).text == "yours"
        await eventually(lambda: len(access(edge)) >= 31)
        assert {line["client"] for line in access(edge)} == {"1.1.1.1", "2.2.2.2", "10.9.9.9"}


async def test_a_redirect_to_another_host_keeps_the_scheme_that_the_proxy_tells(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    headers = {"X-Forwarded-Proto": "https", "Host": "example.com"}
    async with gateway(make_project, nats_server) as (client, _):
        moved = await client.get("/moved", headers=headers)
        assert (moved.status_code, moved.headers["location"]) == (302, "https://other.example.com/moved")
    untrusting = SETTINGS.replace("127.0.0.1", "192.0.2.1")
    async with gateway(make_project, nats_server, untrusting) as (client, _):
        moved = await client.get("/moved", headers=headers)
        assert moved.headers["location"] == "http://other.example.com/moved"


async def test_what_the_connection_refuses_has_a_line_in_the_access_log(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    async with gateway(make_project, nats_server) as (client, edge):
        async with connected(client.base_url.port or 0) as raw:
            await raw.say(b"GET /mine?secret=1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert (await raw.answer()).status == 400
        await eventually(lambda: len(access(edge)) == 1)
        (line,) = access(edge)
        assert {name: line[name] for name in ("method", "path", "route", "status", "client", "why")} == {
            "method": "GET", "path": "/mine", "route": "refused", "status": 400, "client": "127.0.0.1",
            "why": "a request has one Host",
        }  # fmt: skip
