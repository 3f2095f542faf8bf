"""`connect_sync()`: publish and ask from code without a loop, from several threads, and never hang."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

import runner
from runner.errors import NoStream, SettingsError, Unconfirmed, Unreachable
from runner.jetstream.connection import connect
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


class Quote(Struct):
    cents: int


async def serve(js: RawJetStream) -> None:
    async def quote(message: Any) -> None:
        await message.respond(b'{"cents": 7}')

    async def mute(_: Any) -> None:
        return

    await js.client.subscribe("bank.quote", cb=quote)
    await js.client.subscribe("bank.mute", cb=mute)
    await js.client.flush()


async def test_it_publishes_and_asks(nats_server: NatsServer, js: RawJetStream, tmp_path: Path) -> None:
    await js.create("ORDERS", ["orders.*"])
    await serve(js)

    def use() -> None:
        with runner.connect_sync(nats_server.url, project=tmp_path) as app:
            first = app.publish("orders.1", {"id": 1}, headers={"Nats-Msg-Id": "a"})
            again = app.publish("orders.1", {"id": 1}, headers={"Nats-Msg-Id": "a"})
            assert (first.stream, first.seq, first.duplicate) == ("ORDERS", 1, False)
            assert (again.seq, again.duplicate) == (1, True)
            assert app.request("bank.quote", {"id": 1}, returns=Quote) == Quote(7)
            assert app.request("bank.quote", {"id": 1}) == {"cents": 7}
            with pytest.raises(NoStream, match="no stream captures refunds.1"):
                app.publish("refunds.1", b"x")
            with pytest.raises(Unconfirmed):
                app.request("bank.mute", b"x", timeout=0.2)
            assert app.publish("orders.2", b"x").seq == 2

    await asyncio.to_thread(use)
    assert (await js.message("ORDERS", 1)).json() == {"id": 1}


async def test_many_threads_share_it(nats_server: NatsServer, js: RawJetStream, tmp_path: Path) -> None:
    await js.create("ORDERS", ["orders.*"])

    def use() -> list[int]:
        with (
            runner.connect_sync(nats_server.url, project=tmp_path) as app,
            ThreadPoolExecutor(8) as threads,
        ):
            return sorted(threads.map(lambda n: app.publish(f"orders.{n}", b"x").seq, range(100)))

    assert await asyncio.to_thread(use) == list(range(1, 101))


async def test_it_works_beside_a_running_loop(
    nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    """As in a notebook, whose cells run in a loop."""
    await js.create("ORDERS", ["orders.*"])
    with runner.connect_sync(nats_server.url, project=tmp_path) as app:
        assert app.publish("orders.1", b"x").seq == 1


async def test_its_thread_ends_with_its_block(nats_server: NatsServer, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with runner.connect_sync(nats_server.url, project=tmp_path) as app:
        assert set(threading.enumerate()) > before
    with pytest.raises(RuntimeError, match="this connection is closed"):
        app.publish("orders.1", b"x")
    assert not [each for each in set(threading.enumerate()) - before if "portal" in each.name]


async def test_without_a_block_it_says_how_it_is_opened() -> None:
    opening: Any = runner.connect_sync("nats://127.0.0.1:1")
    with pytest.raises(RuntimeError, match=r"connect_sync\(\) is not open: write `with"):
        opening.publish("orders.1", b"x")
    with pytest.raises(AttributeError, match="publsh"):
        opening.publsh("orders.1", b"x")


KEPT = """
import os, sys, threading
import runner
app = runner.connect_sync(sys.argv[1]).open()
print(app.publish("orders.1", b"x").seq, flush=True)
if not (child := os.fork()):
    sys.exit(0)
os.waitpid(child, 0)
print(app.publish("orders.2", b"x").seq, flush=True)
if sys.argv[2] == "close":
    app.close()
    app.close()
    try:
        app.publish("orders.3", b"x")
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.parametrize("end", ["close", "leave"])
async def test_it_is_kept_open_until_it_is_closed_or_the_process_ends(
    nats_server: NatsServer, js: RawJetStream, tmp_path: Path, end: str
) -> None:
    """As web applications do, at the level of a module; the end of a forked child does not touch it."""
    await js.create("ORDERS", ["orders.*"])
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KEPT, nats_server.url, end],
        cwd=tmp_path,
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:2] == ["1", "2"]
    assert ("this connection is closed" in done.stdout) == (end == "close")


@pytest.mark.parametrize("there", [True, False])
async def test_a_project_that_is_not_there_is_told(tmp_path: Path, *, there: bool) -> None:
    folder = tmp_path / "nowhere"
    if there:
        folder.mkdir()
    with (
        pytest.raises(SettingsError, match=f"there is no project in {folder}"),
        runner.connect_sync(project=folder),
    ):
        raise AssertionError("there is no project")


async def test_without_a_server_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(connect)["__wrapped__"].__kwdefaults__, "patience", 0.3)
    with (
        pytest.raises(Unreachable, match="127.0.0.1"),
        runner.connect_sync(f"nats://127.0.0.1:{free_port()}", project=tmp_path),
    ):
        raise AssertionError("there is no server")


async def test_what_the_block_raises_comes_out_as_it_is(nats_server: NatsServer, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"), runner.connect_sync(nats_server.url, project=tmp_path):
        raise KeyError("mine")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_process_is_refused_at_once(
    nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    await js.create("ORDERS", ["orders.*"])
    said = tmp_path / "said"

    def use() -> float:
        with runner.connect_sync(nats_server.url, project=tmp_path) as app:
            began = time.monotonic()
            child = os.fork()
            if not child:
                try:
                    app.publish("orders.1", b"x")
                except RuntimeError as error:
                    said.write_text(str(error))
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            took = time.monotonic() - began
            assert app.publish("orders.1", b"x").seq == 1
            return took

    assert await asyncio.to_thread(use) < 20
    assert "open one in this process" in said.read_text()


CONNECTING = """
    import runner
    from journal import note
    from runner import Context, consume, lifespan

    @lifespan
    async def app():
        async with runner.connect() as app:
            yield app

    @consume("orders.one")
    async def one(body: bytes, ctx: Context) -> None:
        note("one", seq=(await ctx.state.publish("orders.two", b"x")).seq)

    @consume("orders.two")
    def two(body: bytes) -> None:
        with runner.connect_sync() as app:
            note("two", seq=app.publish("orders.three", b"x").seq)
"""


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
async def test_what_functions_open_goes_to_the_server_of_the_runner(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project], workers: tuple[str, ...]
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": CONNECTING})
    project.start("run", "--nats-url", nats_server.url, *workers)
    await js.publish("orders.one", b"x")
    await eventually(lambda: bool(project.journal("two")))
    assert (project.journal("one")[0]["seq"], project.journal("two")[0]["seq"]) == (2, 3)


TRACED = "import runner, sys\nwith runner.connect_sync(sys.argv[1]) as app: app.publish('orders.1', b'x')\n"


@pytest.mark.parametrize("asked", [True, False])
async def test_a_collector_that_nobody_asked_for_is_no_news_to_a_script(
    nats_server: NatsServer, js: RawJetStream, tmp_path: Path, *, asked: bool
) -> None:
    await js.create("ORDERS", ["orders.*"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if asked:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    else:  # the default port may be taken on this machine: what is asked for there goes nowhere
        environment["HTTP_PROXY"] = f"http://127.0.0.1:{free_port()}"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", TRACED, nats_server.url],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert ("traces do not arrive" in done.stderr) == asked, done.stderr
