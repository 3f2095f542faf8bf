"""Connections are taken many at a time, whatever else the loop has to do."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from runner.gateway import sockets
from runner.gateway.limits import Limits
from runner.gateway.listener import Listener
from tests.support.rawhttp import connected

pytestmark = pytest.mark.anyio

MANY = 250
GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The runner's loop is uvloop's where that is installed."""
    return "asyncio", {"use_uvloop": request.param}


async def good(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def bound() -> AsyncIterator[tuple[socket.socket, Listener]]:
    """A listener that takes nothing yet; clients can connect, since the system does that for it."""
    listening, listener = sockets.bound("127.0.0.1:0"), Listener(good, Limits(), lambda *_: None)
    try:
        yield listening, listener
    finally:
        async with asyncio.timeout(60):
            await listener.leave()
        await listener.close()


@contextmanager
def clients(listening: socket.socket, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(listening.getsockname(), timeout=60))
            for _ in range(count)
        ]


async def test_all_that_wait_are_taken_in_a_few_turns_of_the_loop() -> None:
    async with bound() as (listening, listener):
        with clients(listening, MANY):
            await listener.open(listening)
            turns = 0
            while len(listener.connections) < MANY and turns < 20:
                turns += 1
                await asyncio.sleep(0)
            assert len(listener.connections) == MANY


async def test_one_that_had_connected_before_the_end_is_answered() -> None:
    async with bound() as (listening, listener):
        await listener.open(listening)
        with clients(listening, 1) as [client]:  # within this turn of the loop: nothing has taken it
            client.sendall(GOOD)
            await listener.leave()
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


async def test_without_files_it_waits_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "jetrunner.gateway")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with bound() as (listening, listener), asyncio.timeout(60):
        await listener.open(listening)
        async with connected(listening.getsockname()[1]) as raw:
            await raw.say(GOOD)
            assert (await raw.answer()).status == 200
            with clients(listening, 1) as [client]:
                client.sendall(GOOD)
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest_file(), hard))
                try:
                    while not caplog.messages:
                        await asyncio.sleep(0.001)
                    await raw.say(GOOD)
                    assert (await raw.answer()).status == 200, "those that are open are served meanwhile"
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                answer = await asyncio.to_thread(client.recv, 1000)
                assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(caplog.messages) == 1
        assert "Too many open files" in caplog.messages[0]


def highest_file() -> int:
    """The number that the next file would get, so that none can be opened from that on."""
    file = os.dup(0)
    os.close(file)
    return file
