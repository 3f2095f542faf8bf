"""Promise 2 with batches: for each key one batch at a time, in stream order, whatever of it fails and whoever is killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from msgspec import Struct
from msgspec.json import decode

from runner import Context, PartialFailure, Reject, Retry, RetryPolicy, consume
from runner.ordered import spill
from runner.testing.plugin import Jetrunner
from tests.support import batch_order
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Ledger, streams
from tests.support.order import check_outputs
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAMS: dict[str, dict[str, Any]] = {
    "ROWS": {"subjects": ["rows.{table}"], "shards": {"count": 2, "by": ["table"]}},
    "STORED": {"subjects": ["stored.*"]},
}
TWICE = RetryPolicy(attempts=2, delay=1.0, jitter="none")
calls: list[list[int]] = []
at_work: list[str] = []
together: list[set[str]] = []


class Row(Struct):
    n: int
    kind: str = "good"


@pytest.fixture(autouse=True)
def no_calls() -> Iterator[None]:
    yield
    calls.clear()
    at_work.clear()
    together.clear()


def poison(rows: Sequence[Row]) -> None:
    calls.append([row.n for row in rows])
    for at, row in enumerate(rows):
        if row.kind == "poison":
            raise OSError(f"row {row.n} breaks the whole insert")
        if row.kind == "closed":
            raise Retry("the table is locked", after=0.05)
        if row.kind == "bad":
            raise PartialFailure({at: Reject("bad")})
        if row.kind == "late":
            raise PartialFailure({at: OSError("not yet")})


@consume("rows.{table}", batch=10, linger=0.1, output="stored.{table}", ordered_by="table", retry=TWICE)
async def store(rows: list[Row], table: list[str], ctx: Context) -> list[Row]:
    assert len({*table}) == 1
    assert [each.key for each in ctx.messages] == table
    at_work.append(table[0])
    together.append({*at_work})
    try:
        await asyncio.sleep(0.005)
        if any(row.kind == "slow" for row in rows):
            calls.append([row.n for row in rows])
            await asyncio.sleep(30)
        poison(rows)
    finally:
        at_work.remove(table[0])
    return rows


def filled(batch: int, linger: float = 2.0) -> Any:
    """The same, which is called once so many are there: whoever stands still between two of them parts nothing."""
    binds = consume(
        "rows.{table}", batch=batch, linger=linger, output="stored.{table}", ordered_by="table", retry=TWICE
    )

    @binds
    async def fill(rows: list[Row], table: list[str], ctx: Context) -> list[Row]:
        return await store(rows, table, ctx)

    return fill


@consume(
    "rows.{table}",
    batch=10,
    linger=0.1,
    batch_by="shard",
    output="stored.{table}",
    ordered_by="table",
    retry=TWICE,
)
async def by_shard(rows: list[Row], ctx: Context) -> list[Row]:
    at_work.append(str(ctx.shard))
    together.append({*at_work})
    assert at_work.count(str(ctx.shard)) == 1, "one batch a shard at a time"
    try:
        await asyncio.sleep(0.005)
        poison(rows)
    finally:
        at_work.remove(str(ctx.shard))
    return rows


async def run(
    jetrunner: Jetrunner, rows: Sequence[Row], function: Any = store, tables: str = "a"
) -> tuple[dict[str, list[int]], list[tuple[int, str]]]:
    """The outputs of each table in their order, and what was given up, with the reason."""
    async with jetrunner(function, streams=STREAMS) as app:
        # In one write, in this order: one by one they may be further apart than `linger`.
        await asyncio.gather(
            *(app.publish(f"rows.{tables[at % len(tables)]}", row) for at, row in enumerate(rows))
        )
        await app.settled()
        outputs = {
            table: [each.decode()["n"] for each in await app.outputs(f"stored.{table}")] for table in tables
        }
        return outputs, [(decode(each.body)["n"], each.reason) for each in await app.dead_letters()]


async def test_a_batch_has_messages_of_one_key_in_their_order(jetrunner: Jetrunner) -> None:
    outputs, dead = await run(jetrunner, [Row(n) for n in range(60)], tables="abc")
    assert outputs == {table: [*range(at, 60, 3)] for at, table in enumerate("abc")}
    assert dead == []
    assert max(map(len, calls)) == 10
    assert len(calls) <= 12
    for at in range(3):
        assert [n for call in calls for n in call if n % 3 == at] == [*range(at, 60, 3)]


async def test_batches_of_other_keys_run_meanwhile_and_none_of_the_same_key(jetrunner: Jetrunner) -> None:
    await run(jetrunner, [Row(n) for n in range(120)], tables="abc")
    assert {"a", "b", "c"} in together or any(len(each) == 2 for each in together)
    assert all(table in "abc" for each in together for table in each)


async def test_what_fails_is_alone_in_the_end_and_what_stands_behind_it_waits(jetrunner: Jetrunner) -> None:
    outputs, dead = await run(jetrunner, [Row(n, "poison" if n == 4 else "good") for n in range(10)])
    assert outputs == {"a": [0, 1, 2, 3, 5, 6, 7, 8, 9]}
    assert dead == [(4, "exhausted")]
    assert calls.count([4]) == 2, "each attempt of its own"
    last = max(at for at, call in enumerate(calls) if call == [4])
    assert all(n < 4 for call in calls[calls.index([4]) + 1 : last] for n in call)
    assert [n for call in calls[last + 1 :] for n in call] == [5, 6, 7, 8, 9]


async def test_another_key_does_not_wait_for_one_that_fails(jetrunner: Jetrunner) -> None:
    rows = [Row(n, "poison" if n == 0 else "good") for n in range(40)]
    async with jetrunner(store, streams=STREAMS, retry_scale=11.0) as app:
        for row in rows:
            await app.publish(f"rows.{'ab'[row.n % 2]}", row)
        async with asyncio.timeout(60):
            while sum(n % 2 for call in calls for n in call) < 20:
                await asyncio.sleep(0.01)
        assert [n for call in calls for n in call if n % 2 == 0 and call[0] != 0] == [], "they wait"
        await app.settled()
        assert [each.decode()["n"] for each in await app.outputs("stored.a")] == [*range(2, 40, 2)]


async def test_of_a_partial_failure_those_behind_the_failed_one_run_again_after_it(
    jetrunner: Jetrunner,
) -> None:
    rows = [Row(n, "late" if n == 3 else "good") for n in range(8)]
    outputs, dead = await run(jetrunner, rows, filled(8))
    assert calls[0] == [*range(8)]
    assert calls[1:3] == [[3], [4, 5, 6, 7]]
    assert dead == [(3, "exhausted")]
    assert outputs == {"a": [4, 5, 6, 7]}, "a call that raises returns nothing"


async def test_a_reject_in_a_batch_lets_its_key_go_on(jetrunner: Jetrunner) -> None:
    _, dead = await run(jetrunner, [Row(n, "bad" if n == 3 else "good") for n in range(8)], filled(8))
    assert calls == [[*range(8)], [4, 5, 6, 7]]
    assert dead == [(3, "rejected")]


async def test_a_retry_is_of_the_first_of_a_key_and_the_others_wait_for_it(jetrunner: Jetrunner) -> None:
    rows = [Row(n, "closed" if n == 1 else "good") for n in range(4)]
    outputs, dead = await run(jetrunner, rows, filled(4))
    assert calls[:2] == [[0, 1, 2, 3], [0]]
    assert calls[2:4] == [[1, 2, 3], [1]]
    assert calls[4:] == [[2, 3]]
    assert outputs == {"a": [0, 2, 3]}
    assert dead == [(1, "exhausted")]


async def test_what_cannot_be_decoded_is_given_up_in_its_place(jetrunner: Jetrunner) -> None:
    async with jetrunner(store, streams=STREAMS) as app:
        for body in (b'{"n": 1}', b'{"n": "two"}', b'{"n": 3}', b"", b'{"n": 5}'):
            await app.publish("rows.a", body)
        await app.settled()
        assert [each.decode()["n"] for each in await app.outputs("stored.a")] == [1, 3, 5]
        assert [each.reason for each in await app.dead_letters()] == ["undecodable"] * 2
    assert calls == [[1], [3], [5]]


@consume(
    "rows.{table}",
    batch=4,
    linger=20.0,
    output="stored.{table}",
    ordered_by="table",
    timeout=0.3,
    retry=TWICE,
)
async def slow(rows: list[Row]) -> list[Row]:
    calls.append([row.n for row in rows])
    if any(row.kind == "slow" for row in rows):
        await asyncio.sleep(30)
    return rows


async def test_one_that_takes_too_long_is_alone_in_the_end(jetrunner: Jetrunner) -> None:
    outputs, dead = await run(jetrunner, [Row(n, "slow" if n == 1 else "good") for n in range(4)], slow)
    assert outputs == {"a": [0, 2, 3]}
    assert dead == [(1, "timeout")]
    assert calls[0] == [0, 1, 2, 3]


@consume("rows.{table}", batch=5, linger=0.1, output="stored.{table}", ordered_by="table")
def in_threads(rows: list[Row]) -> list[Row]:
    calls.append([row.n for row in rows])
    return rows


async def test_threads_take_ordered_batches_too(jetrunner: Jetrunner) -> None:
    outputs, _ = await run(jetrunner, [Row(n) for n in range(23)], in_threads)
    assert outputs == {"a": [*range(23)]}
    assert [n for call in calls for n in call] == [*range(23)]


async def test_each_message_publishes_for_itself_in_the_order_of_its_key(jetrunner: Jetrunner) -> None:
    @consume("rows.{table}", batch=5, linger=0.1, ordered_by="table")
    async def tell(rows: list[Row], ctx: Context) -> None:
        for row, each in zip(rows, ctx.messages, strict=True):
            each.publish("stored.first", {"n": row.n})
            each.publish("stored.second", {"n": row.n})

    async with jetrunner(tell, streams=STREAMS) as app:
        for n in range(12):
            await app.publish("rows.a", Row(n))
        await app.settled()
        assert [each.decode()["n"] for each in await app.outputs("stored.first")] == [*range(12)]


@pytest.mark.parametrize("function", [store, by_shard])
@pytest.mark.parametrize("poisoned", [-1, 57])
async def test_batches_are_full_and_in_order_where_more_waits_than_may_stay_in_memory(
    jetrunner: Jetrunner, function: Any, poisoned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "BUDGET_BYTES", 20_000)
    rows = [Row(n, "poison" if n == poisoned else "x" * 400) for n in range(300)]
    outputs, dead = await run(jetrunner, rows, function, tables="abc")
    assert outputs == {
        table: [n for n in range(at, 300, 3) if n != poisoned] for at, table in enumerate("abc")
    }
    assert [n for n, _ in dead] == [poisoned] * (poisoned >= 0)
    assert len(calls) <= 60, (
        "30 where all are full; a search for the poisoned one, and what a busy machine parts"
    )


# -- batches of a shard ---------------------------------------------------------------------------------


async def test_a_batch_of_a_shard_has_all_its_keys_in_stream_order(jetrunner: Jetrunner) -> None:
    outputs, dead = await run(jetrunner, [Row(n) for n in range(80)], by_shard, tables="abcdefgh")
    assert outputs == {table: [*range(at, 80, 8)] for at, table in enumerate("abcdefgh")}
    assert dead == []
    assert any(len({n % 8 for n in call}) > 1 for call in calls), "several keys in one call"
    assert all(call == sorted(call) for call in calls)
    assert max(map(len, calls)) == 10
    assert len(calls) <= 16


async def test_a_key_that_fails_does_not_hold_back_its_shard(jetrunner: Jetrunner) -> None:
    rows = [Row(n, "late" if n == 8 else "good") for n in range(80)]
    async with jetrunner(by_shard, streams=STREAMS, retry_scale=11.0) as app:
        for row in rows:
            await app.publish(f"rows.{'abcdefgh'[row.n % 8]}", row)
        async with asyncio.timeout(60):
            while len({n for call in calls for n in call if n % 8}) < 70:
                await asyncio.sleep(0.01)
        failed = next(at for at, call in enumerate(calls) if 8 in call)
        assert not any(n % 8 == 0 and n >= 8 for call in calls[failed + 1 :] for n in call), "its key waits"
        await app.settled()
        assert [(decode(each.body)["n"], each.reason) for each in await app.dead_letters()] == [
            (8, "exhausted")
        ]
        for table in "abcdefgh":
            told = [each.decode()["n"] for each in await app.outputs(f"stored.{table}")]
            assert told == sorted(told)
        after = [n for call in calls[max(at for at, call in enumerate(calls) if call == [8]) :] for n in call]
        assert [n for n in after if n % 8 == 0] == [8, *range(16, 80, 8)]


async def test_the_poison_record_of_a_shard_is_alone_in_the_end(jetrunner: Jetrunner) -> None:
    rows = [Row(n, "poison" if n == 17 else "good") for n in range(40)]
    outputs, dead = await run(jetrunner, rows, by_shard, tables="abcd")
    assert dead == [(17, "exhausted")]
    assert outputs == {table: [n for n in range(at, 40, 4) if n != 17] for at, table in enumerate("abcd")}


# -- parked keys ----------------------------------------------------------------------------------------

PARKS = """
    @consume("orders.{customer}.{kind}", output="paid.{customer}", ordered_by="customer", on_exhausted="park",
             batch=10, linger=0.2, retry=RetryPolicy.fixed(0.05, attempts=2))
    async def charge(orders: list[Order], ctx: Context) -> list[Order]:
        note("batch", ids=[order.id for order in orders])
        bad = {at: ValueError("no bank") for at, order in enumerate(orders) if os.path.exists(f"fail-{order.id}")}
        if bad:
            raise PartialFailure(bad)
        for order in orders:
            note("done", id=order.id)
        return orders
"""


async def test_a_key_is_parked_behind_what_fails_in_a_batch_and_comes_back_in_order(shop: Shop) -> None:
    await shop.open(PARKS.replace("    @consume", "    from runner import PartialFailure\n\n    @consume", 1))
    (shop.project.root / "fail-3").touch()
    for number in range(1, 7):
        await shop.js.publish("orders.anna.created", {"id": number})
    process: RunnerProcess = shop.run()
    await process.seen("ready")

    async def parked() -> bool:
        found = [each.json()["id"] for each in await shop.js.messages("PARKED", "parked.shop.charge.anna")]
        return found == [4, 5, 6]

    await eventually(parked)
    assert [each["ids"] for each in shop.notes("batch")][:2] == [[1, 2, 3, 4, 5, 6], [3]]
    assert len(await shop.js.messages("DEADLETTERS")) == 1
    (shop.project.root / "fail-3").unlink()
    shop.project.json("deadletter", "redrive", "--key", "anna")
    await eventually(lambda: len(shop.notes("done")) == 4)
    assert [each["id"] for each in shop.notes("done")] == [3, 4, 5, 6]
    await shop.js.publish("orders.anna.created", {"id": 7})
    await eventually(lambda: shop.notes("done")[-1]["id"] == 7)


# -- kills and resizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_by", [pytest.param("key", marks=pytest.mark.thorough), "shard"])
async def test_batches_keep_their_order_while_instances_and_the_server_are_killed_and_shards_change(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, batch_by: str
) -> None:
    project = make_project(
        functions={"ledger": batch_order.source(batch_by)}, streams=streams(4), nats=nats_server.url
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, random.Random(7), server=nats_server)
    for _ in range(2):
        ledger.add()
    await ledger.owning(4)

    async def trouble() -> None:
        for turn in range(4):
            await asyncio.sleep(1.0)
            assert await ledger.kill()
            if turn == 1:
                assert await project.start("shard", "resize", "LEDGER", "6").ended(within=60) == 0
            if turn == 2:
                nats_server.kill()
                await asyncio.to_thread(nats_server.start)
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.publish(4_000, 30, 9.0))
        tasks.create_task(trouble())
    await ledger.settled(within=120)
    await ledger.close()
    stored = {key: sorted(sequences) for key, sequences in ledger.stored.items()}
    found = batch_order.check(ledger.journal.read_text().splitlines(), stored)
    letters = await js.messages("DEADLETTERS")
    dead = {int(letter.headers["Jetrunner-Dead-Sequence"]) for letter in letters}
    assert found.problems + ledger.problems == [], ledger.told
    assert max(found.sizes) > 5
    assert {letter.headers["Jetrunner-Dead-Reason"] for letter in letters} <= {"exhausted"}
    made = [(key, sequence) for key, sequence, _ in await ledger._outputs()]
    assert check_outputs(made, stored, dead) == []
