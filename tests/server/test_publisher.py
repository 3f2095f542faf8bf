"""The publisher on a real server: confirmed, once, together or not at all, and never too large."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from runner.errors import NoStream, PermissionDenied, StreamFull, TooLarge, Unconfirmed
from runner.jetstream.publisher import Outgoing, PubAck
from tests.server.conftest import Connects
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def numbered(count: int, prefix: str = "m") -> list[Outgoing]:
    return [
        Outgoing("paid.1", b"%d" % number, (("Nats-Msg-Id", f"{prefix}-{number}"),))
        for number in range(count)
    ]


async def test_a_publish_is_confirmed_by_stream_and_sequence(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"])
    async with connected(nats_server.url) as connection:
        ack = await connection.publisher.publish("paid.1", b"body", [("A", "ü"), ("B", "")])
        assert (ack.stream, ack.seq, ack.duplicate) == ("PAID", 1, False)
    stored = await js.message("PAID", 1)
    assert (stored.body, stored.raw_headers) == (b"body", "NATS/1.0\r\nA: ü\r\nB: \r\n\r\n".encode())


async def test_the_same_msg_id_is_stored_once(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"])
    async with connected(nats_server.url) as connection:
        for attempt in range(3):
            ack = await connection.publisher.publish_surely(numbered(1)[0], 60)
            assert (ack.seq, ack.duplicate) == (1, attempt > 0)
    assert await js.count("PAID") == 1


async def test_a_subject_without_a_stream_is_named(connected: Connects, nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        with pytest.raises(NoStream, match=r"nobody answers on paid\.1"):
            await connection.publisher.publish("paid.1", b"")
        with pytest.raises(ValueError, match="cannot publish to 'paid.*'"):
            await connection.publisher.publish("paid.*", b"")


async def test_an_answer_of_somebody_else_is_no_confirmation(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.thank("paid.1")
    async with connected(nats_server.url) as connection:
        with pytest.raises(NoStream, match="not a PubAck"):
            await connection.publisher.publish("paid.1", b"")


async def test_headers_count_and_the_connection_survives_what_is_too_large(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server("max_payload: 10000")
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        await js.create("PAID", ["paid.>"])
        publisher, headers = connection.publisher, [("A", "b" * 489)]
        epoch = connection.wire.epoch
        assert connection.max_payload == 10_000
        block = len("NATS/1.0\r\nA: \r\n\r\n") + 489
        assert (await publisher.publish("paid.1", b"x" * (10_000 - block), headers)).seq == 1
        with pytest.raises(TooLarge, match="10001 bytes with its headers; the server takes 10000"):
            await publisher.publish("paid.1", b"x" * (10_001 - block), headers)
        with pytest.raises(TooLarge):
            publisher.send(b"paid.1", b"x" * 10_001, b"", lambda *_: None, None)
        with pytest.raises(TooLarge):
            await connection.batches.store([*numbered(2), Outgoing("paid.1", b"x" * 10_000)], math.inf)
        assert (await publisher.publish("paid.1", b"still here")).seq == 2
        assert connection.wire.epoch == epoch


async def test_a_stream_that_takes_less_than_the_server_says_so(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"], max_msg_size=10)
    async with connected(nats_server.url) as connection:
        with pytest.raises(TooLarge, match="message size exceeds maximum") as caught:
            await connection.publisher.publish_surely(Outgoing("paid.1", b"x" * 100), math.inf)
        assert "max_msg_size" in caught.value.hint


@pytest.mark.parametrize("limit", [{"max_msgs": 2}, {"max_bytes": 200}])
async def test_a_full_stream_is_waited_for_and_filled_once_there_is_room(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, limit: dict[str, int]
) -> None:
    await js.create("PAID", ["paid.>"], discard="new", **limit)
    async with connected(nats_server.url) as connection:
        for message in (full := [Outgoing("paid.1", b"x" * 50)] * 2):
            await connection.publisher.publish_surely(message, 60)

        async def is_full() -> bool:  # an answer may come later than that
            with pytest.raises(StreamFull, match="exceeded"):
                await connection.publisher.publish_surely(full[0], 0.2)
            return True

        await eventually(is_full)
        waiting = asyncio.create_task(connection.publisher.publish_surely(numbered(1)[0], math.inf))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await js.api("STREAM.PURGE.PAID")
        assert (await waiting).seq == 3


SMALL_ACCOUNT = """
    accounts {
        SMALL { jetstream: {max_file: 100KB}, users: [{user: small, password: small}] }
    }
    no_auth_user: small
"""


@pytest.mark.parametrize("batch", [False, True], ids=["a message", "a batch"])
async def test_a_full_account_is_waited_for_and_filled_once_there_is_room(
    connected: Connects, make_server: Callable[..., NatsServer], *, batch: bool
) -> None:
    """nats-server answers with 10002, which is neither a limit of the stream nor an error of a moment without a leader."""
    server = make_server(SMALL_ACCOUNT)
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        await js.create("PAID", ["paid.>"], allow_atomic=True)
        await js.create("FILLED", ["filled"])

        async def fill() -> None:
            for _ in range(100):
                await connection.publisher.publish_surely(Outgoing("filled", b"x" * 2_000), 0.2)

        async def is_filled() -> bool:  # an answer may come later than that
            with pytest.raises(StreamFull, match="resource limits exceeded for account") as caught:
                await fill()
            return "of the account" in caught.value.hint

        await eventually(is_filled)

        async def publish(patience: float) -> PubAck:
            large = [Outgoing("paid.1", b"x" * 2_000)] * 2
            if batch:
                return await connection.batches.store(large, patience)
            return await connection.publisher.publish_surely(large[0], patience)

        async def is_full() -> bool:
            with pytest.raises(StreamFull, match="resource limits exceeded for account"):
                await publish(0.2)
            return True

        await eventually(is_full)
        waiting = asyncio.create_task(publish(math.inf))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await js.api("STREAM.PURGE.FILLED")
        assert (await waiting).stream == "PAID"


@pytest.mark.parametrize("together", [1, 3])
async def test_publishes_outlive_a_server_that_is_killed_and_stand_once(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, together: int
) -> None:
    await js.create("PAID", ["paid.>"], allow_atomic=True)
    sets = [numbered(together, f"set-{number}") for number in range(600)]
    done: list[PubAck] = []
    async with connected(nats_server.url) as connection:

        async def store(batch: list[Outgoing]) -> None:
            done.append(await connection.batches.store(batch, math.inf))

        tasks = [asyncio.create_task(store(batch)) for batch in sets]
        await eventually(lambda: len(done) > 20)
        await asyncio.to_thread(nats_server.restart, kill=True)
        await asyncio.gather(*tasks)
    assert await js.count("PAID") == 600 * together


async def test_a_lost_connection_is_told_at_once_to_whoever_waits(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("PAID", ["paid.>"])
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        proxy.freeze()
        waiting = asyncio.create_task(connection.publisher.publish("paid.1", b""))
        told: list[Any] = []
        connection.publisher.send(b"paid.1", b"", b"", lambda *answer: told.append(answer), "which")
        await asyncio.sleep(0.05)
        await proxy.cut(refuse=True)
        async with asyncio.timeout(60):
            with pytest.raises(Unconfirmed, match="the connection was lost"):
                await waiting
        assert told[0][0] == "which"
        assert isinstance(told[0][-1], Unconfirmed)
        asked = asyncio.create_task(
            connection.publisher.publish("paid.1", b"")
        )  # while there is no connection
        await asyncio.sleep(0.05)
        await proxy.mend()
        async with asyncio.timeout(60):
            with pytest.raises(Unconfirmed, match="the connection was lost"):
                await asked


async def test_a_missing_permission_is_told_at_once_and_names_the_subject(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(
        "authorization { users: [ {user: admin, password: a}, {user: app, password: b, "
        'permissions: { publish: { deny: ["paid.>"] } }} ] }'
    )
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        await js.create("PAID", ["paid.>"])
        async with connected(server.url_as("app", "b")) as connection, asyncio.timeout(60):
            with pytest.raises(PermissionDenied, match=r"do not allow to publish to paid\.Köln"):
                await connection.publisher.publish_surely(Outgoing("paid.Köln", b""), math.inf)
        assert await js.count("PAID") == 0
