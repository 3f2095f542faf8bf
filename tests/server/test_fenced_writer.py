"""The writer under a fence: what a batch has left out is written, errors of any message are told, and nothing once the fence has moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from runner.core import fence
from runner.errors import PermissionDenied, ServerError, ShardLost, StreamFull, TooLarge
from runner.jetstream.connection import Connection
from runner.jetstream.fenced import FencedWriter
from runner.jetstream.publisher import Outgoing, PubAck, read_ack
from runner.pipeline.fence import raw_message
from tests.server.conftest import Connects
from tests.server.test_publisher import SMALL_ACCOUNT
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.server import NatsServer, version

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FENCE = "_jetrunner.PAID.shop.charge.0.0"


class Writer:
    """A writer under the fence `FENCE` of the stream `PAID`, and what its waiters were told."""

    def __init__(self, connection: Connection, *, serial: bool) -> None:
        self.refused = 0
        self.told: list[str] = []
        self.writer = FencedWriter(connection, "PAID", serial=serial, atomic=True, refused=self._refused)

    def _refused(self) -> None:
        self.refused += 1

    def hold(self, sequence: int) -> None:
        self.writer.hold(fence.expect(FENCE, sequence))

    async def put(self, *messages: Outgoing) -> PubAck:
        """Write messages as one entry; the PubAck, or the error that the waiter was called with."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def told(name: str, _: bytes | None, answer: bytes, error: ServerError | None) -> None:
            self.told.append(name)  # a second call would be seen here
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer)

        name = dict(messages[0].headers)["Nats-Msg-Id"]
        self.writer.put([raw_message(message) for message in messages], told, name)
        return read_ack(await future, "PAID")


def entry(name: str, sizes: Sequence[int] = (1, 1, 1)) -> list[Outgoing]:
    return [
        Outgoing(f"paid.{name}.{number}", b"x" * size, (("Nats-Msg-Id", f"{name}-{number}"),))
        for number, size in enumerate(sizes)
    ]


async def create(js: RawJetStream, **fields: object) -> int:
    """Make the stream, and write its fence."""
    await js.create("PAID", ["paid.>", "_jetrunner.PAID.>"], allow_atomic=True, **fields)
    return await js.publish(FENCE)


async def paid(js: RawJetStream) -> list[Stored]:
    return await js.messages("PAID", "paid.>")


@pytest.fixture(params=[False, True], ids=["pipelined", "serial"])
def serial(request: pytest.FixtureRequest) -> bool:
    """Whether only one write is in flight, as in a stream with replicas."""
    return bool(request.param)


async def test_the_other_messages_of_an_entry_are_written_under_the_fence_if_one_stands_already(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, *, serial: bool
) -> None:
    sequence = await create(js)
    for standing in (0, 1, 2):
        await js.publish(f"paid.{standing}.{standing}", b"", {"Nats-Msg-Id": f"{standing}-{standing}"})
    async with connected(nats_server.url) as connection:
        writer = Writer(connection, serial=serial)
        writer.hold(sequence)
        entries = [entry(str(number)) for number in range(5)]
        acks = await asyncio.gather(*[writer.put(*each) for each in entries])
    assert [ack.duplicate for ack in acks] == [False, False, True, False, False]
    assert sorted(writer.told) == [f"{number}-0" for number in range(5)]  # each once
    stored = await paid(js)
    assert sorted(each.subject for each in stored) == sorted(
        message.subject for each in entries for message in each
    )
    later = [each for each in stored if each.headers["Nats-Msg-Id"] in {"0-1", "0-2", "1-0", "1-2", "2-0"}]
    assert {each.headers["Nats-Expected-Last-Subject-Sequence"] for each in later} == {str(sequence)}


async def test_an_entry_of_which_the_server_has_stored_a_half_is_told_only_when_all_of_it_stands(
    connected: Connects, make_server: Callable[..., NatsServer], *, serial: bool
) -> None:
    server = make_server(SMALL_ACCOUNT)
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        sequence = await create(js)
        await js.create("FILLED", ["filled"])
        for _ in range(3):
            await connection.publisher.publish("filled", b"x" * 15_000)
        writer = Writer(connection, serial=serial)
        writer.hold(sequence)
        sizes = [10_000] * 8
        with pytest.raises(
            ServerError, match="no answer came" if version() >= (2, 14) else "limits exceeded"
        ):
            await writer.put(*entry("a", sizes))
        assert len(await paid(js)) == 5
        with pytest.raises(StreamFull):
            await writer.put(*entry("a", sizes))
        await js.api("STREAM.PURGE.FILLED")
        assert not (await writer.put(*entry("a", sizes))).duplicate
        assert [each.subject for each in await paid(js)] == [f"paid.a.{number}" for number in range(8)]


async def test_nothing_is_written_for_an_entry_that_stands_in_part_once_the_fence_has_moved(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, *, serial: bool
) -> None:
    sequence = await create(js)
    await js.publish("paid.a.0", b"", {"Nats-Msg-Id": "a-0"})
    await js.publish(FENCE, "another owner's")
    async with connected(nats_server.url) as connection:
        writer = Writer(connection, serial=serial)
        writer.hold(sequence)
        writing = asyncio.create_task(writer.put(*entry("a")))
        await eventually(lambda: writer.refused)
        assert not writing.done()
        writer.writer.fail(ShardLost("another instance owns the shard"))
        with pytest.raises(ShardLost):
            await writing
    assert writer.told == ["a-0"]
    assert len(await paid(js)) == 1


async def test_an_entry_that_stands_in_part_is_completed_under_the_fence_that_is_written_again(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, *, serial: bool
) -> None:
    sequence = await create(js)
    await js.publish("paid.a.0", b"", {"Nats-Msg-Id": "a-0"})
    again = await js.publish(FENCE)
    async with connected(nats_server.url) as connection:
        writer = Writer(connection, serial=serial)
        writer.hold(sequence)
        writing = asyncio.create_task(writer.put(*entry("a")))
        await eventually(lambda: writer.refused)
        writer.hold(again)
        await writing
    assert [each.subject for each in await paid(js)] == ["paid.a.0", "paid.a.1", "paid.a.2"]


@pytest.mark.parametrize("large", [0, 1, 2])
async def test_a_message_that_is_too_large_is_told_and_holds_up_no_other_entry(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, large: int, *, serial: bool
) -> None:
    sequence = await create(js, max_msg_size=1000)
    sizes = [2000 if number == large else 1 for number in range(3)]
    async with connected(nats_server.url) as connection, asyncio.timeout(60):
        writer = Writer(connection, serial=serial)
        writer.hold(sequence)
        found = await asyncio.gather(
            writer.put(*entry("a")),
            writer.put(*entry("large", sizes)),
            writer.put(*entry("b")),
            return_exceptions=True,
        )
    assert isinstance(found[1], TooLarge)
    assert isinstance(found[0], PubAck)
    assert isinstance(found[2], PubAck)
    assert sorted(writer.told) == ["a-0", "b-0", "large-0"]
    assert len(await paid(js)) == 6


async def test_a_message_of_an_entry_that_is_not_allowed_is_told(
    connected: Connects, make_server: Callable[..., NatsServer], *, serial: bool
) -> None:
    server = make_server(
        "authorization { users: [ {user: admin, password: a}, {user: app, password: b, "
        'permissions: { publish: { deny: ["paid.a.1"] } }} ] }'
    )
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        sequence = await create(js)
        async with connected(server.url_as("app", "b")) as connection, asyncio.timeout(60):
            writer = Writer(connection, serial=serial)
            writer.hold(sequence)
            with pytest.raises(PermissionDenied, match=r"do not allow to publish to paid\.a\.1"):
                await writer.put(*entry("a"))
        assert not await paid(js)
