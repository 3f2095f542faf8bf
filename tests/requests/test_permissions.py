"""Who asks with no more than `runner permissions --requests` prints asks well; with less, as far as that goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import connect
from runner.errors import PermissionDenied
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
from runner import reply

@reply("quote.{number}", idempotent=True)
async def quote(number: int) -> int:
    return number
"""
USER = """
authorization {{ users: [
  {{ user: all, password: all }}
  {{ user: asker, password: asker, permissions: {{ publish: {publish}, subscribe: {subscribe} }} }}
] }}
"""


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": SOURCE})


def allowed(project: Project) -> tuple[list[str], list[str]]:
    """What is printed for requests, and nothing of the rest."""
    without = json.loads(project.runner("permissions", "--for", "publish", "--form", "jwt").stdout)["nats"]
    done = project.runner("permissions", "--for", "publish", "--form", "jwt", "--requests", "quote.{n}")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)["nats"]
    publish = [
        each for each in found["pub"]["allow"] if each not in without["pub"]["allow"] or "quote" in each
    ]
    return publish, found["sub"]["allow"]


def server(folder: Path, publish: list[str], subscribe: list[str]) -> NatsServer:
    rights = {"publish": json.dumps(publish), "subscribe": json.dumps(subscribe)}
    return NatsServer(folder, USER.format(**rights)).start()


@pytest.mark.parametrize("taken", [None, "$SRV.INFO", "jetrunner.*.at.*.quote.*", "$SRV.PING.*.*"])
async def test_requests_are_answered(project: Project, tmp_path: Path, taken: str | None) -> None:
    publish, subscribe = allowed(project)
    if taken is not None:
        publish.remove(taken)
    nats = server(tmp_path / "server", publish, subscribe)
    try:
        project.environment["NATS_URL"] = nats.url_as("all", "all")
        await project.start("run").seen("ready: ")
        async with connect(nats.url_as("asker", "asker")) as app:
            for number in range(10):
                assert await app.request(f"quote.{number}", None, returns=int, timeout=60.0) == number
    finally:
        nats.stop()


async def test_who_may_not_ask_hears_so_at_once(project: Project, tmp_path: Path) -> None:
    publish, subscribe = allowed(project)
    nats = server(tmp_path / "server", [each for each in publish if "quote" not in each], subscribe)
    try:
        project.environment["NATS_URL"] = nats.url_as("all", "all")
        await project.start("run").seen("ready: ")
        async with connect(nats.url_as("asker", "asker")) as app, asyncio.timeout(60):
            with pytest.raises(PermissionDenied, match=r"quote\.1"):
                await app.request("quote.1", None, timeout=60.0)
    finally:
        nats.stop()


async def test_who_may_not_ask_whether_an_instance_lives_takes_none_for_frozen(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    slow = SOURCE.replace("    return number", "    await asyncio.sleep(0.4)\n    return number")
    project = make_project(functions={"shop": "import asyncio\n" + slow})
    publish, subscribe = allowed(project)
    publish.remove("$SRV.PING.*.*")
    nats = server(tmp_path / "server", publish, subscribe)
    try:
        project.environment["NATS_URL"] = nats.url_as("all", "all")
        await project.start("run").seen("ready: ")
        async with connect(nats.url_as("asker", "asker")) as app:
            for number in range(3):
                assert await app.request(f"quote.{number}", None, returns=int, timeout=60.0) == number
            (callee,) = app._requester.directory.callees.values()
            assert [each.ejections for each in callee.balancer.backends.values()] == [0]
    finally:
        nats.stop()
