"""Messages of a stream as its leader has them: read, written by compare-and-set, removed, purged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from nats.aio.msg import Msg

from runner.errors import ServerError
from runner.jetstream import codes, messages
from tests.server.conftest import Connects
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_message_is_found_by_its_sequence_or_its_subject(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    await js.publish("orders.a", b"\x00one", {"Tenant": "acme"})
    await js.publish("orders.b", b"")
    async with connected(nats_server.url) as connection:
        first = await messages.leader_message(connection, "ORDERS", {"seq": 1})
        assert first is not None
        assert (first.sequence, first.subject, first.body) == (1, "orders.a", b"\x00one")
        assert first.header is not None
        assert b"Tenant: acme" in first.header
        assert first.stored_ns == messages.nanoseconds(first.time) > 0
        last = await messages.leader_message(connection, "ORDERS", {"last_by_subj": "orders.*"})
        assert last is not None
        assert (last.sequence, last.header, last.body) == (2, None, b"")
        for ask in ({"seq": 3}, {"last_by_subj": "orders.c"}, {"seq": 2, "next_by_subj": "orders.a"}):
            assert await messages.leader_message(connection, "ORDERS", ask) is None
        assert [each async for each in messages.subjects(connection, "ORDERS", ">")] == [
            ("orders.a", 1),
            ("orders.b", 1),
        ]


async def test_a_stream_that_is_not_there_is_told_from_one_without_the_message(
    nats_server: NatsServer, connected: Connects
) -> None:
    async with connected(nats_server.url) as connection:
        with pytest.raises(ServerError) as refused:
            await messages.leader_message(connection, "NONE", {"seq": 1})
        assert refused.value.code == codes.STREAM_NOT_FOUND
        assert await messages.leader_message(connection, "NONE", {"seq": 1}, codes.NOTHING_STORED) is None
        assert [each async for each in messages.subjects(connection, "NONE", ">")] == []
        assert await messages.purge(connection, "NONE", ">") == 0
        await messages.remove(connection, "NONE", 1)


async def test_what_was_written_meanwhile_keeps_its_place(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    async with connected(nats_server.url) as connection:
        assert await messages.swap(connection, "orders.a", b"1", 0) == 1
        assert await messages.swap(connection, "orders.a", b"2", 0) is None
        assert await messages.swap(connection, "orders.a", b"2", 1) == 2
        await js.publish("orders.a", b"3")
        assert await messages.purge(connection, "ORDERS", "orders.a", 2) == 2
        await messages.remove(connection, "ORDERS", 1)
        await messages.remove(connection, "ORDERS", 3)
        await messages.remove(connection, "ORDERS", 4)
        assert await js.count("ORDERS") == 0


async def test_a_message_that_is_no_base64_ends_nothing(
    make_server: Callable[..., NatsServer], connected: Connects
) -> None:
    """Where the account sends the question to another client, which answers in JetStream's place."""
    server = make_server('mappings = { "$JS.API.STREAM.MSG.GET.ORDERS": "forged" }')
    answer = b'{"message": {"seq": 1, "time": "2026-01-01T00:00:00Z", "subject": "orders.a", "data": "a"}}'

    async def answered(message: Msg) -> Any:
        await message.respond(answer)

    async with RawJetStream.connect(server.url) as raw, connected(server.url) as connection:
        await raw.client.subscribe("forged", cb=answered)
        for _ in range(2):  # nats-py's first PING overtakes the SUB in its buffer
            await raw.client.flush()
        with pytest.raises(ServerError, match="no base64"):
            await messages.leader_message(connection, "ORDERS", {"seq": 1})
