"""Batches: one call for many messages, each settled for itself; what fails is alone in the end, the others proceed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from msgspec import Struct
from msgspec.json import decode

from runner import Context, PartialFailure, Reject, Retry, RetryPolicy, consume, testing
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TWICE = RetryPolicy(attempts=2, delay=0.0)
calls: list[list[int]] = []


class Row(Struct):
    n: int
    kind: str = "good"


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@consume("rows.{table}", batch=10, linger=0.3, output="stored.{table}", retry=TWICE)
async def store(rows: list[Row], table: list[str], ctx: Context) -> list[dict[str, Any] | None]:
    calls.append([row.n for row in rows])
    assert len(rows) == len(table) == len(ctx.messages)
    for row in rows:
        if row.kind == "poison":
            raise OSError(f"row {row.n} breaks the whole insert")
        if row.kind == "slow":
            await asyncio.sleep(30)
        if row.kind == "closed":
            raise Retry("the table is locked")
    if failed := {index: Reject("bad") for index, row in enumerate(rows) if row.kind == "bad"}:
        raise PartialFailure(failed)
    for row, each in zip(rows, ctx.messages, strict=True):
        if row.kind == "told":
            each.publish("told", {"n": row.n})
    return [None if row.kind == "silent" else {"n": row.n} for row in rows]


def filled(batch: int, linger: float = 20.0) -> Any:
    """The same, which is called once so many are there: whoever stands still between two of them parts nothing."""
    binds = consume("rows.{table}", batch=batch, linger=linger, output="stored.{table}", retry=TWICE)

    @binds
    async def fill(rows: list[Row], table: list[str], ctx: Context) -> list[dict[str, Any] | None]:
        return await store(rows, table, ctx)

    return fill


async def run(
    jetrunner: Jetrunner, rows: list[Row], function: Any = store
) -> tuple[list[int], list[tuple[int, str]]]:
    """The numbers of the rows that were stored, and of those that were given up, with the reason."""
    async with jetrunner(function, streams={"ALL": ["rows.*", "stored.*", "told"]}) as app:
        # In one write: one by one they may be further apart than `linger`.
        await asyncio.gather(*(app.publish("rows.a", row) for row in rows))
        await app.settled()
        stored = sorted(each.decode()["n"] for each in await app.outputs("stored.*"))
        return stored, [(decode(each.body)["n"], each.reason) for each in await app.dead_letters()]


async def test_many_messages_are_one_call_and_each_has_its_output(jetrunner: Jetrunner) -> None:
    stored, dead = await run(jetrunner, [Row(n) for n in range(35)])
    assert (stored, dead) == ([*range(35)], [])
    assert sorted(n for call in calls for n in call) == [*range(35)]
    assert max(map(len, calls)) == 10
    assert len(calls) <= 6


async def test_a_batch_that_is_not_full_is_called_after_its_linger(jetrunner: Jetrunner) -> None:
    stored, _ = await run(jetrunner, [Row(1), Row(2)], filled(3, linger=2.0))
    assert stored == [1, 2]
    assert calls == [[1, 2]]


async def test_the_poison_record_is_alone_in_the_end(jetrunner: Jetrunner) -> None:
    stored, dead = await run(jetrunner, [Row(n, "poison" if n == 4 else "good") for n in range(10)])
    assert stored == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert dead == [(4, "exhausted")]
    assert calls.count([4]) == 2, "each attempt of its own"


async def test_a_failure_of_some_is_theirs_alone_and_their_neighbours_are_not_called_again(
    jetrunner: Jetrunner,
) -> None:
    rows = [Row(n, "bad" if n in (2, 5) else "good") for n in range(8)]
    _, dead = await run(jetrunner, rows, filled(8))
    assert dead == [(2, "rejected"), (5, "rejected")]
    assert calls == [[*range(8)]]


async def test_what_cannot_be_decoded_is_given_up_and_the_others_run(jetrunner: Jetrunner) -> None:
    async with jetrunner(store, streams={"ALL": ["rows.*", "stored.*", "told"]}) as app:
        for body in (
            b'{"n": 1}',
            b'{"n": "one"}',
            b'{"n": 2}\n,{"n": 3}',
            b'{"n":\n 4}',
            b"",
            b'{"n": 5}',
            b'[{"n": 6}',
            b"]",
        ):
            await app.publish("rows.a", body)
        await app.settled()
        assert sorted(each.decode()["n"] for each in await app.outputs("stored.*")) == [1, 4, 5]
        assert {each.reason for each in await app.dead_letters()} == {"undecodable"}
        assert len(await app.dead_letters()) == 5


async def test_a_retry_speaks_of_the_whole_batch(jetrunner: Jetrunner) -> None:
    stored, dead = await run(jetrunner, [Row(1), Row(2, "closed"), Row(3)], filled(3))
    assert stored == [1, 3]
    assert dead == [(2, "exhausted")]
    assert calls[0] == [1, 2, 3]
    assert sorted(calls[1:]) == [[1], [2], [3]], "each comes again alone"


async def test_each_message_publishes_for_itself_and_an_element_that_is_none_publishes_nothing(
    jetrunner: Jetrunner,
) -> None:
    async with jetrunner(store, streams={"ALL": ["rows.*", "stored.*", "told"]}) as app:
        await app.publish("rows.a", Row(1, "told"))
        await app.publish("rows.b", Row(2, "silent"))
        await app.settled()
        assert [(each.subject, each.decode()) for each in await app.outputs("stored.*")] == [
            ("stored.a", {"n": 1})
        ]
        assert [each.decode() for each in await app.outputs("told")] == [{"n": 1}]


@consume("rows.*", batch=4, linger=0.1, output="stored.all", timeout=0.3, retry=TWICE)
async def slow(rows: list[Row]) -> list[Row]:
    calls.append([row.n for row in rows])
    if any(row.kind == "slow" for row in rows):
        await asyncio.sleep(30)
    return rows


async def test_one_that_takes_too_long_is_alone_in_the_end(jetrunner: Jetrunner) -> None:
    stored, dead = await run(jetrunner, [Row(n, "slow" if n == 1 else "good") for n in range(4)], slow)
    assert (stored, dead) == ([0, 2, 3], [(1, "timeout")])


@consume("rows.*", batch=5, linger=0.1, output="stored.all")
async def items(rows: list[Row]) -> AsyncIterator[Row | None]:
    for row in rows:
        yield row if row.kind == "good" else None


@consume("rows.*", batch=5, linger=0.1, output="stored.all")
def in_threads(rows: list[Row]) -> list[Row]:
    calls.append([row.n for row in rows])
    return rows


@consume("rows.*", batch=5, linger=0.1, output="stored.all")
def items_in_threads(rows: list[Row]) -> Iterator[Row]:
    yield from rows


@pytest.mark.parametrize("function", [items, in_threads, items_in_threads])
async def test_generators_and_threads_take_batches_too(jetrunner: Jetrunner, function: Any) -> None:
    stored, dead = await run(jetrunner, [Row(n) for n in range(12)], function)
    assert (stored, dead) == ([*range(12)], [])


@consume("rows.*", batch=5, linger=0.1, output="stored.all", retry=RetryPolicy(attempts=1))
async def too_few(rows: list[Row]) -> list[Row]:
    return rows[1:] if len(rows) > 1 else rows


async def test_a_list_of_another_length_is_a_failure(jetrunner: Jetrunner) -> None:
    stored, dead = await run(jetrunner, [Row(n) for n in range(4)], too_few)
    assert (stored, dead) == ([*range(4)], []), "alone each has as many as it should"


async def test_a_message_is_delivered_without_a_server_as_a_batch_of_one() -> None:
    done = await testing.deliver(store, "rows.a", Row(7, "told"))
    assert [(each.subject, each.body) for each in done.outputs] == [
        ("told", b'{"n":7}'),
        ("stored.a", b'{"n":7}'),
    ]
    assert (await testing.deliver(store, "rows.a", Row(7, "bad"))).reason == "rejected"
    assert (await testing.deliver(store, "rows.a", Row(7, "silent"))).outputs == ()


@consume("rows.*", batch=50, linger=600, output="stored.all")
async def patient(rows: list[Row]) -> list[Row]:
    return rows


async def test_a_stop_does_not_wait_for_a_batch_to_fill(jetrunner: Jetrunner) -> None:
    async with asyncio.timeout(60):
        async with jetrunner(patient, streams={"ALL": ["rows.*", "stored.*"]}) as app:
            await app.publish("rows.a", Row(1))
            async with RawJetStream.connect(app.url) as raw:
                await eventually(partial(in_work, raw))
            with pytest.raises(testing.Unsettled, match="1 in work"):
                await app.settled(within=0.5)


async def in_work(raw: RawJetStream) -> bool:
    return bool((await raw.consumer("ALL", "test-patient"))["num_ack_pending"])


async def test_all_that_fails_is_tried_as_often_as_the_policy_says(jetrunner: Jetrunner) -> None:
    _, dead = await run(jetrunner, [Row(n, "poison") for n in range(10)])
    assert sorted(dead) == [(n, "exhausted") for n in range(10)]
    assert sorted(call[0] for call in calls if len(call) == 1) == sorted([*range(10), *range(10)])


@consume("rows.{table}", batch=2, linger=60.0, retry=RetryPolicy(attempts=2, delay=0.0))
async def once_bad(rows: list[Row], ctx: Context) -> None:
    times.append(asyncio.get_running_loop().time())
    if ctx.attempt == 1:
        raise PartialFailure({0: OSError("not yet")})


times: list[float] = []


async def test_a_message_that_comes_again_does_not_wait_for_others(jetrunner: Jetrunner) -> None:
    async with jetrunner(once_bad, streams={"ALL": ["rows.*"]}) as app:
        for n in (1, 2):
            await app.publish("rows.a", Row(n))
        await app.settled(within=60)
    first, again = times
    assert again - first < 50
