"""Connections of ours to a real server, over both wires."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeAlias

import pytest

from runner.config import Settings
from runner.jetstream.connection import Connection, connect
from tests.support.server import NatsServer

Connects: TypeAlias = Callable[..., AbstractAsyncContextManager[Connection]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that the commands run in: uvloop says otherwise than asyncio's own what a closed socket is."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first connection waits for a server that stands still, where a test does not say how long."""
    monkeypatch.setitem(vars(connect)["__wrapped__"].__kwdefaults__, "patience", 60.0)


@pytest.fixture(params=["fast", "plain"])
def wire(request: pytest.FixtureRequest) -> str:
    """Which wire: our own reading and writing, or nats-py's alone."""
    return str(request.param)


@pytest.fixture
def connected(wire: Literal["fast", "plain"]) -> Connects:
    """`async with connected(url) as connection`, over the test's wire."""

    @asynccontextmanager
    async def connected(url: str, **settings: Any) -> AsyncIterator[Connection]:
        async with connect(Settings(nats_url=url, wire=wire, **settings), patience=60) as connection:
            yield connection

    return connected


def reload(server: NatsServer, config: str) -> None:
    """Have a running server read another configuration, as an operator does (SIGHUP)."""
    file = server.directory / "nats-server.conf"
    file.write_text(file.read_text().replace(server.config, config))
    server.config = config
    os.kill(server.pid, signal.SIGHUP)
