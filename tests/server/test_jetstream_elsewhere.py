"""At a server without JetStream in a cluster, its absence is told from the absence of those that have it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.config import Settings
from runner.errors import JetrunnerError
from runner.jetstream import server as checks
from runner.jetstream.connection import connect
from runner.jetstream.server import check_server, leaderless, led
from tests.support.cluster import Cluster
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take its time on a busy machine: it is not waited for in vain here."""
    monkeypatch.setattr(checks, "NOTICE_SECONDS", 60.0)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[tuple[NatsServer, Cluster]]:
    """A server without JetStream, and its cluster, whose two others have JetStream and are not started yet."""
    three = Cluster(tmp_path / "cluster")
    server = three.servers[2]
    server.start(f"{server.config}\njetstream: disabled")
    try:
        yield server, three
    finally:
        three.stop()


async def test_a_command_waits_for_the_servers_that_have_jetstream(
    edge: tuple[NatsServer, Cluster],
) -> None:
    server, cluster = edge
    told: asyncio.Queue[str] = asyncio.Queue()
    async with connect(Settings(nats_url=server.url), patience=60) as connection:
        waiting = asyncio.create_task(led(connection, 100.0, told.put_nowait))
        assert (await told.get()).endswith("; at most 1m40s")
        for other in cluster.servers[:2]:
            other.start()
        await waiting
        await check_server(connection, 60.0)


@pytest.mark.usefixtures("patient")
async def test_no_server_that_has_jetstream_in_its_time_is_an_error_that_names_both_causes(
    edge: tuple[NatsServer, Cluster],
) -> None:
    server, _ = edge
    told: list[str] = []
    async with connect(Settings(nats_url=server.url), patience=60) as connection:
        with pytest.raises(JetrunnerError, match="JetStream did not answer for 300ms") as absent:
            await led(connection, 0.3, told.append)
        assert "start the other servers" in absent.value.hint
        assert "-js" in absent.value.hint
        assert len(told) == 1
        with pytest.raises(JetrunnerError, match="JetStream is not usable at nats://127") as unusable:
            await check_server(connection)
        assert "-js" in unusable.value.hint


@pytest.mark.usefixtures("patient")
async def test_what_no_server_answers_is_not_told_as_a_stream_that_is_not_there(
    edge: tuple[NatsServer, Cluster],
) -> None:
    server, _ = edge
    async with connect(Settings(nats_url=server.url), patience=60) as connection:
        assert await leaderless(connection, "orders.1") == "no server of the cluster answers for JetStream"


@pytest.mark.usefixtures("patient")
async def test_a_server_that_is_alone_and_has_no_jetstream_is_not_waited_for(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "plain", "jetstream: disabled").start()
    told: list[str] = []
    try:
        async with connect(Settings(nats_url=server.url), patience=60) as connection:
            began = time.monotonic()
            await led(connection, 100.0, told.append)
            with pytest.raises(JetrunnerError, match="JetStream is not enabled at nats://127"):
                await check_server(connection, 100.0)
            assert time.monotonic() - began < 90
            assert told == []
            assert await leaderless(connection, "orders.1") == ""
    finally:
        server.kill()
