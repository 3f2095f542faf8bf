"""Our own streams whose server is away are waited for: they are not made again, and nothing is dropped."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from nats.aio.msg import Msg

from runner.config import Settings
from runner.core.kepterror import KeptError
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.ownstreams import BUCKET_STREAM, ERRORS, STREAMS
from runner.jetstream.publisher import retry_until
from runner.runtime.kepterrors import KeptErrors
from tests.support.cluster import Cluster, apart
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project

pytestmark = [pytest.mark.server, pytest.mark.anyio]

KEY = f"$KV.{ownstreams.BUCKET}.some"


class Asked:
    """The calls of JetStream's API for one stream, as they come."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def heard(self, message: Msg) -> None:
        """Note a call."""
        self.calls.append(message.subject.split(".")[3])


@asynccontextmanager
async def overheard(url: str, stream: str) -> AsyncIterator[Asked]:
    """What is asked for on a stream within the block."""
    asked = Asked()
    async with RawJetStream.connect(url) as js:
        await js.client.subscribe(f"$JS.API.STREAM.*.{stream}", cb=asked.heard)
        for _ in range(2):  # nats-py's first PING overtakes the SUB in its buffer
            await js.client.flush()
        yield asked


async def created(cluster: Cluster, *streams: str) -> list[str]:
    """When streams were made, as their server says once it was started again: then it goes by what the cluster remembers."""
    holder = await cluster.leader(streams[0])
    holder.kill()
    holder.start()
    async with RawJetStream.connect(cluster.url) as js:

        async def remembers() -> bool:
            """Whether all servers have a stream that was assigned after all others."""
            await js.create("LATEST", ["latest"], num_replicas=3)
            others = (await js.stream("LATEST"))["cluster"].get("replicas", [])
            return len(others) == 2 and all(each["current"] for each in others)

        await eventually(remembers)
        return [(await js.stream(stream))["created"] for stream in streams]


@pytest.mark.parametrize("make_sure", [ownstreams.restore, ownstreams.ensure], ids=["restore", "ensure"])
async def test_a_stream_whose_server_is_away_is_waited_for_and_not_made_again(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, make_sure: Callable[[Connection, str], Awaitable[Any]]
) -> None:
    async with RawJetStream.connect(cluster.url) as js:
        made = await js.api(f"STREAM.CREATE.{BUCKET_STREAM}", {**STREAMS[BUCKET_STREAM], "num_replicas": 1})
        await js.publish(KEY, b"x")
    holder = await cluster.leader(BUCKET_STREAM)
    other = next(server for server in cluster.servers if server is not holder)
    holder.kill()
    async with (
        overheard(other.url, BUCKET_STREAM) as asked,
        connect(Settings(nats_url=other.url), patience=60) as connection,
    ):
        waiting = asyncio.create_task(retry_until(lambda: make_sure(connection, BUCKET_STREAM), math.inf))
        await eventually(lambda: len(asked.calls) >= 2)
        assert not waiting.done()
        holder.start()
        await waiting
        await retry_until(lambda: make_sure(connection, BUCKET_STREAM), 60)
    assert set(asked.calls) == {"INFO"}
    assert await created(cluster, BUCKET_STREAM) == [made["created"]]
    async with RawJetStream.connect(cluster.url) as js:
        assert [message.body for message in await js.messages(BUCKET_STREAM)] == [b"x"]
    assert "created again" not in caplog.text


async def test_a_stream_that_many_make_at_one_time_keeps_its_time_of_creation(cluster: Cluster) -> None:
    urls = [server.url for server in cluster.servers for _ in range(4)]
    ready, go = [], asyncio.Event()

    async def one(url: str) -> None:
        async with connect(Settings(nats_url=url), patience=60) as connection:
            ready.append(url)
            await go.wait()
            await retry_until(lambda: ownstreams.ensure(connection, BUCKET_STREAM), 60)

    async with anyio.create_task_group() as tasks:
        for url in urls:
            tasks.start_soon(one, url)
        await eventually(lambda: len(ready) == len(urls))
        go.set()
    async with RawJetStream.connect(cluster.url) as js:
        before = (await js.stream(BUCKET_STREAM))["created"]
    assert await created(cluster, BUCKET_STREAM) == [before]


async def test_errors_of_attempts_wait_for_their_stream_while_its_server_is_away(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with RawJetStream.connect(cluster.url) as js:
        await js.api(f"STREAM.CREATE.{ERRORS}", {**STREAMS[ERRORS], "num_replicas": 1})
    holder = await cluster.leader(ERRORS)
    other = next(server for server in cluster.servers if server is not holder)
    holder.kill()
    async with RawJetStream.connect(other.url) as js:
        await eventually(lambda: js.unheard("$JETRUNNER.error.any"))
    async with (
        overheard(other.url, ERRORS) as asked,
        connect(Settings(nats_url=other.url), patience=60) as connection,
        anyio.create_task_group() as tasks,
    ):
        kept = KeptErrors(connection, "shop", tasks)
        for sequence in range(1, 11):
            assert kept.admit("charge")
            kept.keep("charge", "ORDERS", sequence, an_error())
        await eventually(lambda: len(asked.calls) >= 2)
        assert kept.admit("charge")
        kept.keep("charge", "ORDERS", 11, an_error())
        holder.start()
    async with RawJetStream.connect(cluster.url) as js:
        assert await js.count(ERRORS) == 11
    assert kept.unkept.total() == 0
    assert set(asked.calls) == {"INFO"}
    assert "cannot be kept" not in caplog.text


def an_error() -> KeptError:
    return KeptError(stored=1, attempt=1, attempts=3, time=1.0, due=2.0, error="ValueError", message="no")


SHOP = """
    from runner import Reject, RetryPolicy, consume

    @consume("orders.*", retry=RetryPolicy.fixed(0.05, attempts=2))
    async def charge(order: dict) -> None:
        raise Reject("no") if order["id"] == 1 else ValueError("no")
"""


async def test_an_instance_waits_for_its_own_streams_whose_only_server_is_away(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    async with apart(tmp_path) as (cluster, made):
        stays, away, _ = cluster.servers
        project = make_project(functions={"shop": SHOP}, nats=stays.url)
        process = project.start("run", NATS_URL=stays.url, JETRUNNER_LEADER_TIMEOUT="100s")
        await process.seen("ready: ")
        away.kill()
        async with RawJetStream.connect(stays.url) as js:
            await eventually(lambda: js.unheard("deadletters.any"))
            for number in (1, 2):
                await js.publish("orders.1", {"id": number})
        await process.seen("errors of failed attempts: no success for")
        await process.seen("a dead letter of charge: no success for")
        away.start()
        async with RawJetStream.connect(stays.url) as js:

            async def stored() -> bool:
                return (await js.count("DEADLETTERS"), await js.count(ERRORS)) == (2, 1)

            await eventually(stored)
        assert "deleted" not in process.output
        assert "cannot be kept" not in process.output
        assert await created(cluster, *made) == [*made.values()]
