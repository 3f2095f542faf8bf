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
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection, connect
from runner.ordered import settlement_log
from runner.ordered.settlement_log import SettlementLog
from runner.ordered.uncommitted import Uncommitted
from runner.runtime.history import History
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ME = "me"


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        await live.api("STREAM.CREATE.LEDGER", {"name": "LEDGER", "subjects": ["ledger.*"]})
        yield live


def made(
    connection: Connection, *, replicated: bool = False, history: History | None = None
) -> SettlementLog:
    process: Any = SimpleNamespace(connection=connection, project="shop", loop=asyncio.get_running_loop())
    history = history or History(connection, "LEDGER")
    return SettlementLog(process, "post", ME, history, replicated=replicated)


class Shard(Uncommitted):
    """The settlements of one shard, which is not in doubt unless its ordering says so."""

    def settle(self, *sequences: int) -> None:
        """As handlers that have ended do."""
        for sequence in sequences:
            self._ordering.settle(sequence)
        if not self.wanted:
            self.enqueue()

    @property
    def left(self) -> int:
        """How many are not on record."""
        return self._ordering.uncommitted


def shard_of(records: SettlementLog, name: str, ordering: Ordering | None = None) -> Shard:
    if ordering is None:
        ordering = Ordering()
        ordering.takeover(0, 0, 0)
    return Shard(records, name, ordering, lambda _: None, lambda: NOTHING)


def shard(records: SettlementLog, number: int = 0, settled: Iterable[int] = ()) -> Shard:
    """One whose settlements are on their way into the bucket if there are any."""
    made = shard_of(records, f"post.1.{number}@now")
    if settled:
        made.settle(*settled)
        made.request_commit()
    return made


async def found(connection: Connection) -> dict[str, set[int]]:
    """What another instance reads."""
    known: dict[str, set[int]] = {}
    for record in await made(connection).load([ME]):
        for name, sequences in record.items():
            known.setdefault(name, set()).update(sequences)
    return known


async def recorded(shards: list[Shard]) -> None:
    async with asyncio.timeout(60):
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


class Breaking(Shard):
    """Fails once when it is asked what is to be recorded."""

    whole = False

    def take(self, most: int) -> list[int]:
        if not self.whole:
            self.whole = True
            raise ValueError("not now")
        return super().take(most)


async def test_a_write_that_fails_in_any_way_is_made_again(connection: Connection) -> None:
    records = made(connection)
    breaking = Breaking(records, "post.1.0@now", Ordering(), lambda _: None, lambda: NOTHING)
    breaking.settle(7)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # without the repair the loop is told
    await recorded([shard(records, 1, [8]), breaking, shard(records, 2, [9])])
    assert await found(connection) == {"post.1.0@now": {7}, "post.1.1@now": {8}, "post.1.2@now": {9}}


async def test_what_is_settled_while_there_is_no_connection_is_on_record_once_there_is_one(
    connection: Connection, nats_server: NatsServer
) -> None:
    alone = shard(made(connection))
    await asyncio.to_thread(nats_server.kill)
    await eventually(lambda: not connection.is_connected)
    alone.settle(7)
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: connection.is_connected)
    await eventually(lambda: alone.left == 0)
    assert await found(connection) == {"post.1.0@now": {7}}


async def test_nothing_is_recorded_on_a_new_connection_before_the_stream_was_found_to_be_the_same(
    connection: Connection, nats_server: NatsServer
) -> None:
    """In an older bucket the next owner would take it for settled, where other messages have the numbers."""
    history = History(connection, "LEDGER")
    await history.check()
    records = made(connection, history=history)
    alone = shard(records)
    history.lose()
    alone.settle(7)
    alone.request_commit()
    await asyncio.sleep(3 * settlement_log.RETRY_SECONDS)
    assert await found(connection) == {}
    await history.check()
    await eventually(lambda: alone.left == 0)
    assert await found(connection) == {"post.1.0@now": {7}}


async def test_an_answer_that_cannot_be_read_is_none(connection: Connection, js: RawJetStream) -> None:
    """Somebody's plain subscriber answers while the bucket is gone."""
    answered = asyncio.Event()

    async def answer(message: Msg) -> None:
        await message.respond(b'"stream"')
        answered.set()

    await js.api(f"STREAM.DELETE.{ownstreams.BUCKET_STREAM}")
    stranger = await js.client.subscribe("$KV.>", cb=answer)
    await js.client.flush()
    one = shard(made(connection), 0, [7])
    await answered.wait()
    await stranger.unsubscribe()
    await js.client.flush()
    await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
    await recorded([one])
    assert await found(connection) == {"post.1.0@now": {7}}


async def record(one: Shard, sequence: int) -> None:
    one.settle(sequence)
    await recorded([one])


async def test_what_is_recorded_is_found_for_longer_than_acks_may_go_nowhere(connection: Connection) -> None:
    """However often is written, no record makes room for another before that."""
    one = shard(made(connection))
    moments = []
    for sequence in range(1_500):
        moments.append(time.monotonic())
        await record(one, sequence)
    young = {sequence for sequence, moment in enumerate(moments) if moments[-1] - moment < 2.8}
    assert young <= (await found(connection))["post.1.0@now"]


async def test_what_a_shard_in_doubt_has_recorded_is_found_until_it_is_not(
    connection: Connection, js: RawJetStream
) -> None:
    """Its acks may have gone nowhere, and nobody can send them again before its server answers."""
    records, ordering = made(connection), Ordering()
    ordering.takeover(0, 0, 0)
    doubtful, other = shard_of(records, "post.1.1@now", ordering), shard(records, 2)
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
    monkeypatch.setattr("runner.ordered.settlement_log.COUNT_SECONDS", 0.0)
    one = shard(made(connection))
    for sequence in range(50):
        await record(one, sequence)
    assert await js.count(ownstreams.BUCKET_STREAM) <= 2
    assert (await found(connection))["post.1.0@now"] <= {48, 49}


@pytest.mark.parametrize("replicated", [False, True], ids=["one replica", "several replicas"])
async def test_what_no_key_waits_for_goes_on_record_too_many_settlements_in_one_message(
    connection: Connection, js: RawJetStream, replicated: bool
) -> None:
    records = made(connection, replicated=replicated)
    shards = [shard(records, number) for number in range(20)]
    for sequence in range(100):
        for each in shards:
            each.settle(sequence)
    await eventually(lambda: not any(each.left for each in shards))
    assert await found(connection) == {f"post.1.{number}@now": set(range(100)) for number in range(20)}
    assert await js.count(ownstreams.BUCKET_STREAM) == 1


async def test_a_key_that_waits_takes_along_what_no_key_waits_for(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.ordered.settlement_log.COUNT_SECONDS", 3600.0)
    monkeypatch.setattr("runner.ordered.settlement_log.COMMIT_SECONDS", 3600.0)
    records = made(connection)
    patient, hurried = shard(records, 1), shard(records, 2)
    patient.settle(7)
    hurried.settle(8)
    await asyncio.sleep(0)
    assert (patient.left, hurried.left) == (1, 1)
    hurried.request_commit()
    await eventually(lambda: (patient.left, hurried.left) == (0, 0))
    patient.settle(9)
    hurried.settle(10)
    hurried.request_commit()  # and while that is on its way
    await asyncio.sleep(0)
    patient.settle(11)
    patient.request_commit()
    await eventually(lambda: (patient.left, hurried.left) == (0, 0))
    assert await found(connection) == {"post.1.1@now": {7, 9, 11}, "post.1.2@now": {8, 10}}


async def test_what_is_on_record_of_a_replicated_stream_counts_for_longer(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.ordered.settlement_log.COUNT_SECONDS", 0.0)
    several = shard(made(connection, replicated=True))
    for sequence in range(50):
        await record(several, sequence)
    assert (await found(connection))["post.1.0@now"] == set(range(50))


async def test_many_records_that_say_little_share_their_keys(
    connection: Connection, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key that is settled again and again: who takes over reads what stands under each key of the bucket."""
    monkeypatch.setattr("runner.ordered.settlement_log.COUNT_SECONDS", 3600.0)
    one = shard(made(connection))
    for sequence in range(1_000):
        await record(one, sequence)
    assert await found(connection) == {"post.1.0@now": set(range(1_000))}
    assert await js.count(ownstreams.BUCKET_STREAM) < 100 + 900 / 16


@pytest.mark.parametrize("moment", range(3))
async def test_a_record_that_takes_the_place_of_another_loses_nothing_when_the_server_dies(
    connection: Connection, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    monkeypatch.setattr("runner.ordered.settlement_log.COUNT_SECONDS", 3600.0)
    monkeypatch.setattr("runner.ordered.settlement_log.FEW", 1)
    one, other = shard(records := made(connection)), shard(records, 1)
    for sequence in range(60 + moment):
        await record(one, sequence)
    one.settle(1_000)
    one.request_commit()
    await asyncio.sleep(0)
    await asyncio.to_thread(nats_server.kill)  # the record is on its way, or was stored without an answer
    await eventually(lambda: not connection.is_connected)
    other.settle(7)
    await asyncio.to_thread(nats_server.start)
    await recorded([one, other])
    for sequence in range(1_001, 1_040):
        await record(one, sequence)
    expected = {*range(60 + moment), *range(1_000, 1_040)}
    await eventually(lambda: _is_found(connection, {"post.1.0@now": expected, "post.1.1@now": {7}}))


@pytest.mark.parametrize("purged", [True, False], ids=["purged", "as it was"])
async def test_a_record_that_takes_the_place_of_another_is_written_again_with_it(
    connection: Connection, js: RawJetStream, monkeypatch: pytest.MonkeyPatch, purged: bool
) -> None:
    monkeypatch.setattr("runner.ordered.settlement_log.COUNT_SECONDS", 3600.0)
    monkeypatch.setattr("runner.ordered.settlement_log.FEW", 1)
    one = shard(records := made(connection))
    for sequence in range(70):
        await record(one, sequence)
    one.settle(70)
    one.request_commit()
    await asyncio.sleep(0)  # it is on its way
    records.forget(0)
    await recorded([one])
    if purged:
        await js.api(f"STREAM.PURGE.{ownstreams.BUCKET_STREAM}")
        records.forget(0)
    await record(one, 71)
    await eventually(lambda: _is_found(connection, {"post.1.0@now": set(range(72))}))


async def _is_found(connection: Connection, expected: dict[str, set[int]]) -> bool:
    return await found(connection) == expected


async def test_what_one_shard_starts_does_not_take_what_another_is_just_told_of(
    connection: Connection,
) -> None:
    """What starts may be settled at once, and the wire may write at any moment: in the midst of an answer, too."""
    log = made(connection)
    started: list[int] = []
    orderings = [Ordering(), Ordering()]
    for ordering in orderings:
        ordering.takeover(0, 0, 0)
        ordering.arrive(1, "a")
        ordering.arrive(2, "a")

    def start(sequences: Sequence[int]) -> None:
        started.extend(sequences)
        first.settle(*sequences)
        first.request_commit()
        connection.wire.flush()

    first = Shard(log, "post.1.0@now", orderings[0], start, lambda: NOTHING)
    second = Shard(log, "post.1.1@now", orderings[1], started.extend, lambda: NOTHING)
    orderings[1].arrive(3, "b")
    first.settle(1)
    second.settle(1)
    first.request_commit()
    second.request_commit()
    connection.wire.flush()  # the record of both is on its way
    second.settle(3)
    second.request_commit()
    await eventually(lambda: first.left == second.left == 0)
    assert sorted(started) == [2, 2]
