"""Durables that somebody deleted, made anew on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runner.config import Settings
from runner.engine.durables import Durables
from runner.engine.floor import Floors
from runner.jetstream import consumer, ownstreams
from runner.jetstream.bucket import Bucket
from runner.jetstream.connection import Connection, connect
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        yield live


@pytest.mark.parametrize(
    ("floor", "start", "begins"),
    [(None, 0, 1), (None, 30, 30), (20, 0, 21), (20, 30, 30), (29, 30, 30), (30, 30, 31), (40, 30, 41)],
)
async def test_a_durable_begins_at_its_floor_or_where_its_generation_does_whichever_is_later(
    connection: Connection, js: RawJetStream, floor: int | None, start: int, begins: int
) -> None:
    created = (await js.create("LEDGER", ["ledger.*"]))["created"]
    for number in range(50):
        await js.publish(f"ledger.{number}")
    floors = Floors(Bucket(connection), "shop")
    if floor is not None:
        await floors.save("LEDGER", "shop-post-2-0", floor, created)
    wanted = consumer.config("shop-post-2-0", "ledger.*", "all", "post", start=start)
    info = await Durables(connection, floors).ensure("LEDGER", wanted)
    assert (info["ack_floor"]["stream_seq"], info["num_pending"]) == (begins - 1, 51 - begins)


async def test_the_floor_of_a_namesake_of_the_stream_counts_for_nothing(
    connection: Connection, js: RawJetStream
) -> None:
    await js.create("LEDGER", ["ledger.*"])
    await js.publish("ledger.1")
    floors = Floors(Bucket(connection), "shop")
    await floors.save("LEDGER", "shop-post-1-0", 1, "2001-01-01T00:00:00Z")
    wanted = consumer.config("shop-post-1-0", "ledger.*", "all", "post")
    assert (await Durables(connection, floors).ensure("LEDGER", wanted))["num_pending"] == 1
