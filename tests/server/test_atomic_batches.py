"""Atomic batches on a real server: stored together or not at all, once, and an error of any message is told."""

from __future__ import annotations

import asyncio
import math

import pytest

from runner.errors import ServerError
from tests.server.conftest import Connects
from tests.server.test_publisher import numbered
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_batch_is_stored_whole_and_a_second_time_not_at_all(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"], allow_atomic=True)
    async with connected(nats_server.url) as connection:
        for count in (2, 1000):
            batch = numbered(count, f"of-{count}")
            ack = await connection.batches.store(batch, 5)
            assert not ack.duplicate
            stored = await js.count("PAID")
            again = await connection.batches.store(batch, 5)
            assert again.duplicate
            assert await js.count("PAID") == stored
    assert stored == 1002


async def test_a_batch_with_one_message_that_stands_already_counts_as_stored(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"], allow_atomic=True)
    async with connected(nats_server.url) as connection:
        for standing in (0, 1, 2):
            batch = numbered(3, f"with-{standing}")
            await connection.publisher.publish_surely(batch[standing], 5)
            assert (await connection.batches.store(batch, 5)).duplicate
    assert await js.count("PAID") == 3


async def test_more_batches_at_once_than_the_server_takes_are_all_stored(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"], allow_atomic=True)
    async with connected(nats_server.url) as connection:
        batches = [numbered(5, f"batch-{number}") for number in range(80)]
        await asyncio.gather(*[connection.batches.store(batch, math.inf) for batch in batches])
    assert await js.count("PAID") == 400


async def test_a_batch_into_a_stream_that_allows_none_is_refused_at_once(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"])
    async with connected(nats_server.url) as connection:
        with pytest.raises(ServerError, match="atomic publish is disabled"):
            await connection.batches.store(numbered(2), math.inf)
