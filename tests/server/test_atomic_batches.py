"""Atomic batches on a real server: stored together or not at all, once, and an error of any message is told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from runner.errors import PermissionDenied, ServerError, TooLarge
from runner.jetstream.publisher import Outgoing
from tests.server.conftest import Connects
from tests.server.test_publisher import SMALL_ACCOUNT, numbered
from tests.support.eventually import eventually
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
            ack = await connection.batches.store(batch, 60)
            assert not ack.duplicate
            stored = await js.count("PAID")
            again = await connection.batches.store(batch, 60)
            assert again.duplicate
            assert await js.count("PAID") == stored
    assert stored == 1002


async def test_the_other_messages_of_a_batch_are_stored_if_one_stands_already(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"], allow_atomic=True)
    async with connected(nats_server.url) as connection:
        for standing in (0, 1, 2):
            batch = numbered(3, f"with-{standing}")
            await connection.publisher.publish_surely(batch[standing], 60)
            assert (await connection.batches.store(batch, 60)).duplicate == (standing == 2)
    assert await js.count("PAID") == 9


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


async def test_a_batch_of_which_the_server_has_stored_a_half_is_stored_whole(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    """A stream with one replica stores a batch message by message, and ends without an answer where the account is full."""
    server = make_server(SMALL_ACCOUNT)
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        await js.create("PAID", ["paid.>"], allow_atomic=True)
        await js.create("FILLED", ["filled"])
        for _ in range(3):
            await connection.publisher.publish("filled", b"x" * 15_000)
        batch = [
            Outgoing(f"paid.{number}", b"x" * 10_000, (("Nats-Msg-Id", f"m-{number}"),))
            for number in range(8)
        ]
        waiting = asyncio.create_task(connection.batches.store(batch, math.inf, "PAID"))
        await eventually(lambda: _count(js, 5))
        assert not waiting.done()
        await js.api("STREAM.PURGE.FILLED")
        assert not (await waiting).duplicate
        assert [each.subject for each in await js.messages("PAID")] == [each.subject for each in batch]


@pytest.mark.parametrize("stream", ["PAID", ""])
@pytest.mark.parametrize("large", [0, 1, 2])
async def test_a_message_that_is_too_large_is_told_wherever_it_stands_in_its_batch(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, large: int, stream: str
) -> None:
    await js.create("PAID", ["paid.>"], allow_atomic=True, max_msg_size=1000)
    batch = numbered(3)
    batch[large] = Outgoing("paid.large", b"x" * 2000, (("Nats-Msg-Id", "large"),))
    async with connected(nats_server.url) as connection, asyncio.timeout(60):
        with pytest.raises(TooLarge, match="message size exceeds maximum"):
            await connection.batches.store(batch, math.inf, stream)
    assert await js.count("PAID") == 0


async def test_a_message_of_a_batch_that_is_not_allowed_is_told(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(
        "authorization { users: [ {user: admin, password: a}, {user: app, password: b, "
        'permissions: { publish: { deny: ["paid.secret"] } }} ] }'
    )
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        await js.create("PAID", ["paid.>"], allow_atomic=True)
        batch = [*numbered(1), Outgoing("paid.secret", b"", (("Nats-Msg-Id", "s"),)), *numbered(1, "last")]
        async with connected(server.url_as("app", "b")) as connection, asyncio.timeout(60):
            with pytest.raises(PermissionDenied, match=r"do not allow to publish to paid\.secret"):
                await connection.batches.store(batch, math.inf, "PAID")
        assert await js.count("PAID") == 0


async def test_a_batch_waits_for_room_for_each_of_its_messages_and_says_so(
    connected: Connects, make_server: Callable[..., NatsServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(SMALL_ACCOUNT)
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        await js.create("PAID", ["paid.>"], allow_atomic=True)
        await js.create("FILLED", ["filled"])
        await connection.publisher.publish("filled", b"x" * 50_000)
        large = Outgoing("paid.large", b"x" * 80_000, (("Nats-Msg-Id", "large"),))
        batch = [*numbered(1), large, *numbered(1, "last")]
        waiting = asyncio.create_task(connection.batches.store(batch, math.inf, "PAID"))
        await eventually(lambda: "resource limits exceeded for account" in caplog.text)
        assert not waiting.done()
        await js.api("STREAM.PURGE.FILLED")
        assert (await waiting).stream == "PAID"
        assert await js.count("PAID") == 3


async def _count(js: RawJetStream, count: int) -> bool:
    return await js.count("PAID") >= count
