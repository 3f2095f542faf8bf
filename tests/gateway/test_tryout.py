"""The page to try an HTTP edge, used in a real browser: `just tools` and a Chromium, or it is skipped.

TRYOUT_PICTURE=docs/images/tryout.png keeps what it looked like.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


async def test_who_opens_the_page_fills_in_a_request_sends_it_and_sees_the_answer(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    browser, python = tools.browser(), tools.tool("python")
    tools.tool("playwright")
    project, port = make_project(name="flights", nats=nats_server.url), free_port()
    for folder in ("functions", "streams"):
        shutil.copytree(ROOT / folder, project.root / folder, dirs_exist_ok=True)
    project.settings("http_docs = true\n")
    await project.applied()
    await project.start("run", "--http", f"127.0.0.1:{port}").seen("ready: ", within=60)
    picture = Path(os.environ.get("TRYOUT_PICTURE", project.root / "page.png"))
    command = [python, "-m", "tests.support.tryout", f"http://127.0.0.1:{port}/docs", browser, str(picture)]

    def look() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    done = await asyncio.to_thread(look)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["title"] == "flights"
    assert seen["operations"] == ["/airports/{airport}", "/airports/{airport}/delays", "/flights/{origin}"]
    assert seen["searched"] == ["/airports/{airport}/delays"]
    assert seen["get"]["line"].startswith("200 OK")
    assert json.loads(seen["get"]["body"])["airport"] == "HNL"
    assert f"http://127.0.0.1:{port}/airports/HNL" in seen["get"]["curl"]
    assert seen["refused"]["line"].startswith("422")
    assert json.loads(seen["example"]) == {
        "date": "", "delay": 0, "distance": 0, "origin": "", "destination": "",
    }  # fmt: skip
    assert seen["post"]["line"].startswith("202")
    assert json.loads(seen["post"]["body"])["stream"] == "FLIGHTS"
    assert seen["events"]["body"].count("data: ") == 2
    assert "default-src 'none'" in seen["policy"]
    assert not seen["planted"], "a script that was planted does not run"
    assert seen["violations"] == ["script-src-elem inline"]
    # The browser itself tells of the answer 422 and of the planted script, and of nothing else.
    told = [line for line in seen["console"] if "422" not in line and "Content Security Policy" not in line]
    assert (told, seen["failed"]) == ([], [])
    assert (await asyncio.to_thread(picture.read_bytes)).startswith(b"\x89PNG")
