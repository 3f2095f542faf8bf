"""`connect_sync()`: publish and ask from code without a loop, from several threads, and never hang."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

import runner
from runner.errors import NoStream, Unconfirmed, Unreachable
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
    with pytest.raises(RuntimeError, match="not running"):
        app.publish("orders.1", b"x")
    assert not [each for each in set(threading.enumerate()) - before if "portal" in each.name]


async def test_without_a_server_it_says_so(tmp_path: Path) -> None:
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

    assert await asyncio.to_thread(use) < 5
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
    await eventually(lambda: bool(project.journal("two")), within=20)
    assert (project.journal("one")[0]["seq"], project.journal("two")[0]["seq"]) == (2, 3)
