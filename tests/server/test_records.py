"""Settlements put on record on a real server, and read by whoever takes over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from nats.aio.msg import Msg

from runner.config import Settings
from runner.core.history import NOTHING
from runner.core.ordering import Ordering
from runner.engine.history import History
from runner.engine.records import Records
from runner.engine.resting import Resting
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection, connect
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(60)]

ME = "me"


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        await live.api("STREAM.CREATE.LEDGER", {"name": "LEDGER", "subjects": ["ledger.*"]})
        yield live


def made(connection: Connection, *, replicated: bool = False) -> Records:
    process: Any = SimpleNamespace(connection=connection, project="shop", loop=asyncio.get_running_loop())
    return Records(process, "post", ME, History(connection, "LEDGER"), replicated=replicated)


def at_rest(records: Records, name: str, ordering: Ordering) -> Resting:
    return Resting(records, name, ordering, lambda _: None, lambda: NOTHING)


def shard(records: Records, number: int = 0, settled: Iterable[int] = ()) -> Resting:
    """The settlements of a shard that is not in doubt, on their way into the bucket if there are any."""
    ordering = Ordering()
    ordering.takeover(0, 0, 0)
    resting = at_rest(records, f"post.1.{number}@now", ordering)
    resting.settled.extend(settled)
    resting.hurry()
    return resting


async def found(connection: Connection) -> dict[str, set[int]]:
    """What another instance reads."""
    known: dict[str, set[int]] = {}
    for record in await made(connection).load([ME]):
        for name, sequences in record.items():
            known.setdefault(name, set()).update(sequences)
    return known


async def recorded(shards: list[Resting]) -> None:
    async with asyncio.timeout(10):
        await asyncio.gather(*(each.record() for each in shards))


async def test_what_one_message_cannot_hold_goes_on_record_with_several(connection: Connection) -> None:
    """After a reconnect every shard records all that it has settled above its ack floor."""
    records = made(connection)
    wanted = {number: range(number << 20, (number << 20) + 32_000) for number in range(8)}
    await recorded([shard(records, number, settled) for number, settled in wanted.items()])
    await recorded([shard(records, 9, [7])])
    assert await found(connection) == {
        "post.1.9@now": {7},
        **{f"post.1.{number}@now": set(settled) for number, settled in wanted.items()},
    }


async def test_a_server_that_takes_only_small_messages_gets_small_records(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server("max_payload: 8192")
    async with connect(Settings(nats_url=server.url)) as connection, RawJetStream.connect(server.url) as js:
        await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
        far = [place * 10**9 for place in range(5_000)]
        await recorded([shard(made(connection), 0, far)])
        assert await found(connection) == {"post.1.0@now": set(far)}
        sizes = [len(each.body) for each in await js.messages(ownstreams.BUCKET_STREAM)]
    assert max(sizes) <= 4096


async def test_what_was_written_before_a_lost_connection_is_written_again_in_parts(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server("max_payload: 8192")
    async with connect(Settings(nats_url=server.url)) as connection, RawJetStream.connect(server.url) as js:
        await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
        records = made(connection)
        await recorded([shard(records, 0, range(5_000))])
        last = (await js.messages(ownstreams.BUCKET_STREAM))[-1].sequence
        epoch = connection.wire.epoch
        await asyncio.to_thread(server.restart, kill=True)
        await eventually(lambda: connection.is_connected and connection.wire.epoch > epoch)
        await recorded([shard(records, 1, [7])])

        async def is_written() -> bool:
            again = [each.sequence for each in await js.messages(ownstreams.BUCKET_STREAM)]
            return sum(sequence > last for sequence in again) > 5

        await eventually(is_written)
        assert await found(connection) == {"post.1.0@now": set(range(5_000)), "post.1.1@now": {7}}


class Breaking(Resting):
    """Fails once when it is asked what is to be recorded."""

    whole = False

    def take(self, *most: int) -> Sequence[int]:
        if not self.whole:
            self.whole = True
            raise ValueError("not now")
        return super().take(*most)


async def test_a_write_that_fails_in_any_way_is_made_again(connection: Connection) -> None:
    records = made(connection)
    breaking = Breaking(records, "post.1.0@now", Ordering(), lambda _: None, lambda: NOTHING)
    breaking.settled.append(7)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # without the repair the loop is told
    await recorded([shard(records, 1, [8]), breaking, shard(records, 2, [9])])
    assert await found(connection) == {"post.1.0@now": {7}, "post.1.1@now": {8}, "post.1.2@now": {9}}


async def test_it_is_cheap_to_ask_what_rests_in_a_shard_however_much_it_is(connection: Connection) -> None:
    """Each message that comes while a shard is in doubt is looked for among what was settled."""
    records = made(connection)
    resting = at_rest(records, "post.1.0@now", Ordering())
    began = time.process_time()
    for number in range(30_000):
        resting.settled.append(number)
        assert number in resting
        assert number + 1 not in resting
    assert time.process_time() - began < 1.0
    await recorded([resting])
    assert 7 not in resting
    resting.settled.append(8)
    assert 8 in resting


async def test_nothing_is_taken_for_stored_while_acks_cannot_leave(
    connection: Connection, nats_server: NatsServer
) -> None:
    resting = at_rest(made(connection), "post.1.0@now", Ordering())
    resting.pass_time(0.0)
    resting.settled.append(7)
    resting.pass_time(1.0)
    await asyncio.to_thread(nats_server.kill)
    await eventually(lambda: not connection.is_connected)
    for moment in range(2, 9):
        resting.pass_time(float(moment))
    assert 7 in resting
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: connection.is_connected)
    resting.pass_time(9.0)
    resting.pass_time(9.4)
    assert 7 in resting, "its ack may just have left"
    resting.pass_time(9.6)
    assert 7 not in resting


async def test_an_answer_that_cannot_be_read_is_none(connection: Connection, js: RawJetStream) -> None:
    """Somebody's plain subscriber answers while the bucket is gone."""
    answered = asyncio.Event()

    async def answer(message: Msg) -> None:
        await message.respond(b'"stream"')
        answered.set()

    await js.api(f"STREAM.DELETE.{ownstreams.BUCKET_STREAM}")
    stranger = await js.client.subscribe("$KV.>", cb=answer)
    await js.client.flush()
    resting = shard(made(connection), 0, [7])
    await answered.wait()
    await stranger.unsubscribe()
    await js.client.flush()
    await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
    await recorded([resting])
    assert await found(connection) == {"post.1.0@now": {7}}


async def record(resting: Resting, sequence: int) -> None:
    resting.settled.append(sequence)
    await recorded([resting])


async def test_what_is_recorded_is_found_for_longer_than_acks_may_go_nowhere(connection: Connection) -> None:
    """However often is written, no record makes room for another before that."""
    resting = shard(made(connection))
    moments = []
    for sequence in range(1_500):
        moments.append(time.monotonic())
        await record(resting, sequence)
    young = {sequence for sequence, moment in enumerate(moments) if moments[-1] - moment < 2.8}
    assert young <= (await found(connection))["post.1.0@now"]


async def test_what_a_shard_in_doubt_has_recorded_is_found_until_it_is_not(
    connection: Connection, js: RawJetStream
) -> None:
    """Its acks may have gone nowhere, and nobody can send them again before its server answers."""
    records, ordering = made(connection), Ordering()
    ordering.takeover(0, 0, 0)
    doubtful, other = at_rest(records, "post.1.1@now", ordering), shard(records, 2)
    await record(doubtful, 7)
    ordering.hold()
    known: dict[str, set[int]] = {"post.1.2@now": {0}}
    sequence = 0
    while 0 in known["post.1.2@now"]:  # the first of the other shard counts no more
        for _ in range(100):
            await record(other, sequence)
            sequence += 1
        known = await found(connection)
    assert known["post.1.1@now"] == {7}
    ordering.takeover(0, 0, 0)
    while "post.1.1@now" in known:
        await record(other, sequence)
        sequence += 1
        known = await found(connection)


async def test_where_little_is_written_there_are_few_keys(
    connection: Connection, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.engine.records.COUNT_SECONDS", 0.0)
    resting = shard(made(connection))
    for sequence in range(50):
        await record(resting, sequence)
    assert await js.count(ownstreams.BUCKET_STREAM) <= 2
    assert (await found(connection))["post.1.0@now"] <= {48, 49}


@pytest.mark.parametrize("replicated", [False, True], ids=["one replica", "several replicas"])
async def test_a_settlement_that_nobody_waits_for_goes_on_record_where_its_ack_may_be_lost_late(
    connection: Connection, replicated: bool
) -> None:
    """A leader that the other servers do not hear takes acks for up to 20 s, and they are lost with it."""
    records = made(connection, replicated=replicated)
    alone = shard(records)
    alone.pass_time(time.monotonic())
    alone.settled.append(7)
    for seconds in (1.0, 2.0):
        alone.pass_time(time.monotonic() + seconds)
    assert bool(alone) == replicated, "it rests until it is on record"
    await asyncio.wait_for(alone.record(), 5)
    assert (await found(connection)) == ({"post.1.0@now": {7}} if replicated else {})


async def test_what_is_on_record_of_a_replicated_stream_counts_for_longer(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.engine.records.COUNT_SECONDS", 0.0)
    several = shard(made(connection, replicated=True))
    for sequence in range(50):
        await record(several, sequence)
    assert (await found(connection))["post.1.0@now"] == set(range(50))
