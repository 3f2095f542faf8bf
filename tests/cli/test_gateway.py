"""`runner gateway` and `--http` as commands: what is missing or wrong is told before anything runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

HELLO = """
    from runner import route

    @route("GET", "/hello/{name}")
    async def hello(name: str) -> str:
        return name
"""
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("uvicorn", "httptools"):
            raise ModuleNotFoundError(name)
        return None

sys.meta_path.insert(0, Blocked())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("uvicorn", "httptools") else found(name, *rest)
sys.argv = ["runner", *sys.argv[1:]]
from runner.cli import main
main()
"""


def without_extra(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        cwd=project.root, env=project.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_the_extra_the_rest_works_and_http_says_what_is_missing(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(functions={"web": HELLO})
    assert without_extra(project, "check").returncode == 0
    done = without_extra(project, "function", "invoke", "hello", "--subject", "GET /hello/ada")
    assert (done.returncode, "ada" in done.stdout) == (0, True), done.stderr
    for command in (
        ["gateway"],
        ["run", "--http", "127.0.0.1:0"],
        ["run", "--http", "127.0.0.1:0", "--workers", "1"],
    ):
        done = without_extra(project, *command)
        assert done.returncode == 2
        assert "install jetrunner with its extra `http`" in done.stderr


def test_a_port_that_is_taken_is_told(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"web": HELLO})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = project.runner("gateway", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 2
    assert "choose a free HOST:PORT" in done.stderr


@pytest.mark.server
@pytest.mark.anyio
@pytest.mark.parametrize("command", [("gateway", "--listen"), ("run", "--http")])
async def test_workers_share_a_socket(
    make_project: Callable[..., Project], nats_server: NatsServer, command: tuple[str, str]
) -> None:
    project, port = make_project(functions={"web": HELLO}, nats=nats_server.url), free_port()
    process = project.start(*command, f"127.0.0.1:{port}", "--workers", "2")
    for number in (1, 2):
        await process.seen(f"worker {number} of 2 is ready", within=60)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        for _ in range(20):
            assert (await client.get("/hello/ada")).text == "ada"


@pytest.mark.server
@pytest.mark.anyio
async def test_a_folder_without_functions_has_routes_alone(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project, port = make_project(nats=nats_server.url), free_port()
    for each in (project.root / "functions").iterdir():
        each.unlink()
    (project.root / "functions").rmdir()
    process = project.start("gateway", "--listen", f"127.0.0.1:{port}")
    await process.seen("ready: routes alone", within=60)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert (await client.get("/anything")).status_code == 404


@pytest.mark.server
@pytest.mark.anyio
async def test_a_run_without_http_says_who_is_not_served(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"web": HELLO}, nats=nats_server.url)
    await project.start("run").seen(
        "routes that only `runner gateway` or --http HOST:PORT serve: hello", within=60
    )
