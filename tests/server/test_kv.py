"""Keys of the bucket, read many at once from a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from runner.config import Settings
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.kv import KV, PREFIX, Entry
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        yield live


async def write(js: RawJetStream, prefix: str, numbers: range) -> None:
    for number in numbers:
        await js.client.publish(f"{PREFIX}{prefix}.{number}", b"%d" % number)
    await js.client.flush()
    await js.publish(f"{PREFIX}last", b"")  # what was published before it is stored


async def overheard(js: RawJetStream) -> list[bytes]:
    """Every request for messages from now on."""
    asked: list[bytes] = []

    async def heard(message: Msg) -> None:
        asked.append(message.data)

    await js.client.subscribe("$JS.API.DIRECT.GET.>", cb=heard)
    for _ in range(2):  # nats-py's first PING overtakes the SUB in its buffer
        await js.client.flush()
    return asked


async def test_three_thousand_keys_are_all_read_and_few_in_one_round_trip(
    connection: Connection, js: RawJetStream
) -> None:
    await write(js, "many", range(3_000))
    await write(js, "few", range(1_024))
    asked = await overheard(js)
    kv = KV(connection)
    assert {key: entry.value for key, entry in (await kv.read(["few.*"])).items()} == {
        f"few.{number}": b"%d" % number for number in range(1_024)
    }
    await js.client.flush()
    await eventually(lambda: len(asked) == 1)
    found = await kv.read(["many.*", "few.7", "nothing.*"])
    assert {key: entry.value for key, entry in found.items()} == {
        **{f"many.{number}": b"%d" % number for number in range(3_000)},
        "few.7": b"7",
    }
    assert found["many.0"].revision == 1
    assert await kv.read(["nothing.*"]) == {}


async def test_keys_that_do_not_fit_into_one_answer_are_read_with_more(
    connection: Connection, js: RawJetStream
) -> None:
    """The server ends an answer at its limit of bytes for a slow reader."""
    body = b"x" * 100_000
    await asyncio.gather(*(js.publish(f"{PREFIX}large.{number}", body) for number in range(800)))
    asked = await overheard(js)
    found = await KV(connection).read(["large.*"])
    await js.client.flush()
    await eventually(lambda: len(asked) > 1)
    assert sorted(found) == sorted(f"large.{number}" for number in range(800))
    assert all(entry.value == body for entry in found.values())


async def test_a_key_that_is_written_while_others_are_read_is_not_passed_over(
    connection: Connection, js: RawJetStream
) -> None:
    await write(js, "many", range(3_000))
    kv = KV(connection)
    ended = asyncio.Event()

    async def rewrite() -> None:
        while not ended.is_set():
            await write(js, "many", range(0, 3_000, 7))

    writer = asyncio.create_task(rewrite())
    try:
        for _ in range(5):
            assert len(await kv.read(["many.*"])) == 3_000
    finally:
        ended.set()
        await writer


class Late(KV):
    """Reads after every key has run out."""

    async def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Entry], int | None]:
        await self._connection.api(f"STREAM.PURGE.{ownstreams.BUCKET_STREAM}")
        return await super()._ask(request)


async def test_a_last_write_that_runs_out_while_it_is_read_does_not_hold_the_reader(
    connection: Connection, js: RawJetStream
) -> None:
    await write(js, "settled", range(3))
    async with asyncio.timeout(60):
        assert await Late(connection).written_since("settled.*", lambda last: last.revision) == []
