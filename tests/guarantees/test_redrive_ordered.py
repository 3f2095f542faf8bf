"""A dead letter of an ordered function that is sent back: in its key's lane, before what waits, by its policy, and exact."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.eventually import eventually
from tests.support.jetstream import Stored
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    def there(name):
        return os.path.exists(name)

    @consume("orders.{customer}.{kind}", output="paid.{customer}", ordered_by="customer",
             retry=RetryPolicy.fixed(0.05, attempts=3))
    async def charge(order: Order, customer: str, ctx: Context) -> Order:
        note("start", id=order.id, customer=customer, attempt=ctx.attempt, sequence=ctx.sequence, subject=ctx.subject,
             message_id=ctx.message_id, stream=ctx.stream, key=ctx.key, headers=dict(ctx.headers))
        while there(f"hold-{order.id}"):
            await asyncio.sleep(0.01)
        if there(f"reject-{order.id}"):
            raise Reject("nothing to charge")
        if there(f"fail-{order.id}") or (ctx.attempt == 1 and there(f"once-{order.id}")):
            raise ValueError("no bank")
        note("done", id=order.id, customer=customer, attempt=ctx.attempt)
        return order
"""
ONCE = CHARGE.replace("RetryPolicy.fixed(0.05, attempts=3)", "RetryPolicy(attempts=1)").replace(
    'there(f"fail-{order.id}")', 'there("fail")'
)

RESTS = CHARGE.replace('there(f"once-{order.id}")', 'there("rest")').replace(
    'raise ValueError("no bank")',
    'raise Retry("closed", after=8.0) if there("rest") else ValueError("no bank")',
)


def touch(shop: Shop, *names: str) -> None:
    for name in names:
        (shop.project.root / name).touch()


def mend(shop: Shop, *names: str) -> None:
    for name in names:
        (shop.project.root / name).unlink()


async def order(shop: Shop, customer: str, *numbers: int, headers: dict[str, str] | None = None) -> None:
    for number in numbers:
        await shop.js.publish(f"orders.{customer}.created", {"id": number}, headers)


def starts(shop: Shop, number: int) -> list[int]:
    """The attempts of an order, as they started."""
    return [note["attempt"] for note in shop.notes("start") if note["id"] == number]


def done(shop: Shop, customer: str = "anna") -> list[int]:
    return [note["id"] for note in shop.notes("done") if note["customer"] == customer]


async def dead(shop: Shop, *numbers: int) -> list[Stored]:
    """Wait until exactly these orders are dead letters."""

    async def are() -> list[Stored]:
        letters = await shop.dead()
        return letters if [letter.json()["id"] for letter in letters] == list(numbers) else []

    if not numbers:
        await eventually(lambda: no_letters(shop))
        return []
    return await eventually(are)


async def no_letters(shop: Shop) -> bool:
    return await shop.js.count("DEADLETTERS") == 0


async def running(shop: Shop, count: int = 1) -> list[RunnerProcess]:
    processes = [shop.run() for _ in range(count)]
    for process in processes:
        await process.seen("ready")
    return processes


def redrive(shop: Shop, *arguments: str) -> list[dict[str, Any]]:
    told = shop.project.json("deadletter", "redrive", *(arguments or ("--all",)))
    assert told["kept"] == []
    return list(told["redriven"])


async def at_rest(shop: Shop) -> None:
    """Nothing is on its way any more, and nothing of it is left."""

    async def none() -> bool:
        marks = await shop.js.messages("KV_jetrunner", "$KV.jetrunner.parked.>")
        return all(mark.json()["state"] == "free" for mark in marks)

    await eventually(none)
    await eventually(lambda: shop.js.settled("ORDERS", "shop-charge-0-0"))
    assert await shop.js.count("PARKED") == 0


async def test_one_that_fails_once_more_is_retried_by_its_policy_and_its_attempts_are_exact(
    shop: Shop,
) -> None:
    await shop.open(CHARGE)
    await running(shop, 3)
    touch(shop, "fail-1")
    await order(shop, "anna", 1, 2)
    await dead(shop, 1)
    mend(shop, "fail-1")
    touch(shop, "once-1")
    assert [each["message_id"] for each in redrive(shop)] == ["ORDERS:1"]
    await eventually(lambda: done(shop) == [2, 1])
    assert starts(shop, 1) == [1, 2, 3, 1, 2]
    await dead(shop)
    await at_rest(shop)


async def test_it_is_the_message_that_it_was_and_its_outputs_have_their_ids(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "fail-7")
    await order(shop, "anna", 7, headers={"Tenant": "a", "Nats-Msg-Id": "mine"})
    (letter,) = await dead(shop, 7)
    mend(shop, "fail-7")
    redrive(shop)
    await eventually(lambda: done(shop) == [7])
    first, *_, again = shop.notes("start")
    for field in ("id", "customer", "subject", "stream", "sequence", "message_id", "key", "attempt"):
        assert again[field] == first[field], field
    assert again["headers"]["Tenant"] == "a"
    assert again["headers"]["Jetrunner-Origin-Msg-Id"] == "mine"
    assert not [name for name in again["headers"] if name.startswith("Jetrunner-Dead-")]
    (output,) = await eventually(lambda: shop.js.messages("PAID"))
    stored = letter.headers["Jetrunner-Dead-Timestamp"]
    assert output.headers["Nats-Msg-Id"] == f"ORDERS:1.{stored}:shop-charge:0"


async def test_it_starts_a_trace_of_its_own_that_points_at_the_one_it_died_in(shop: Shop) -> None:
    await shop.open(CHARGE)
    with Receiver() as receiver:
        traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        shop.project.environment |= traced
        await running(shop)
        touch(shop, "reject-1")
        await order(shop, "anna", 1)
        (letter,) = await dead(shop, 1)
        mend(shop, "reject-1")
        (told,) = redrive(shop)
        await eventually(lambda: done(shop) == [1])
        headers = shop.notes("start")[-1]["headers"]
        assert headers["traceparent"].split("-")[1] == told["trace_id"]
        assert headers["Jetrunner-Origin-Trace"] == letter.headers["traceparent"]


@pytest.mark.parametrize("key", ["k" * 2_500, "é" * 150, "~0123456789abcdef0123456789abcdef"])
async def test_its_key_may_be_any_text(shop: Shop, key: str) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1")
    await order(shop, key, 1)
    await dead(shop, 1)
    mend(shop, "reject-1")
    redrive(shop)
    await eventually(lambda: done(shop, key) == [1])
    await dead(shop)
    await at_rest(shop)


async def test_one_that_is_given_up_again_is_a_dead_letter_of_its_first_place_and_the_key_goes_on(
    shop: Shop,
) -> None:
    await shop.open(CHARGE)
    await running(shop, 2)
    touch(shop, "fail-1")
    await order(shop, "anna", 1)
    (letter,) = await dead(shop, 1)
    redrive(shop)
    await eventually(lambda: _letters(shop, [2]))
    await order(shop, "anna", 2)
    await eventually(lambda: done(shop) == [2])
    assert starts(shop, 1) == [1, 2, 3, 1, 2, 3]
    (again,) = await dead(shop, 1)
    for name in ("Stream", "Sequence", "Timestamp", "Subject", "Function", "Reason", "Attempts"):
        assert again.headers[f"Jetrunner-Dead-{name}"] == letter.headers[f"Jetrunner-Dead-{name}"], name
    await at_rest(shop)


async def _letters(shop: Shop, sequences: list[int]) -> bool:
    return [letter.sequence for letter in await shop.dead()] == sequences


async def test_it_goes_before_what_waits_newer_ones_wait_behind_and_other_keys_go_on(shop: Shop) -> None:
    """It stays among the dead letters until it is settled."""
    await shop.open(CHARGE)
    await running(shop, 2)
    touch(shop, "reject-1", "hold-2")
    await order(shop, "anna", 1)
    await dead(shop, 1)
    mend(shop, "reject-1")
    await order(shop, "anna", 2, 3)
    await eventually(lambda: starts(shop, 2) == [1])
    touch(shop, "hold-1")
    redrive(shop)
    mend(shop, "hold-2")
    await eventually(lambda: starts(shop, 1) == [1, 1])
    await order(shop, "anna", 4)
    await order(shop, "ben", 11)
    await eventually(lambda: done(shop, "ben") == [11])
    assert done(shop) == [2]
    await dead(shop, 1)
    mend(shop, "hold-1")
    await eventually(lambda: done(shop) == [2, 1, 3, 4])
    await dead(shop)
    await at_rest(shop)


@pytest.mark.parametrize("keys", [1, pytest.param(300, marks=pytest.mark.thorough)])
async def test_many_come_back_each_key_in_the_order_of_its_messages(shop: Shop, keys: int) -> None:
    await shop.open(ONCE)
    await running(shop, 2)
    touch(shop, "fail")
    for number in range(300):
        await shop.js.client.publish(f"orders.c{number % keys}.created", b'{"id": %d}' % number)
    await shop.dead_letter(300)
    # Of those that die once more, their number among the dead letters tells nothing about their order.
    redrive(shop, *(str(letter.sequence) for letter in (await shop.dead())[:20:2]))
    await eventually(lambda: _last(shop, 310))
    await at_rest(shop)
    mend(shop, "fail")
    assert len(redrive(shop)) == 300
    await eventually(lambda: len(shop.notes("done")) >= 300, within=60)
    await dead(shop)
    await at_rest(shop)
    numbers = [note["id"] for note in shop.notes("done")]
    assert (numbers if keys == 1 else sorted(numbers)) == list(range(300))
    assert {note["attempt"] for note in shop.notes("done")} == {1}


async def _last(shop: Shop, sequence: int) -> bool:
    return int((await shop.js.stream("DEADLETTERS"))["state"]["last_seq"]) == sequence


async def test_the_limit_takes_the_oldest_and_the_rate_spreads_them(shop: Shop) -> None:
    await shop.open(ONCE)
    await running(shop)
    touch(shop, "fail")
    await order(shop, "anna", *range(8))
    await dead(shop, *range(8))
    mend(shop, "fail")
    assert len(redrive(shop, "--all", "--limit", "6", "--rate", "2/s")) == 6
    await dead(shop, 6, 7)
    notes = shop.notes("done")
    assert [note["id"] for note in notes] == [0, 1, 2, 3, 4, 5]
    # Two and a half seconds are between the first and the last; the first may start late.
    assert notes[-1]["at"] - notes[0]["at"] >= 0.25


async def test_it_is_known_once_however_often_it_is_asked_for(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1", "hold-2")
    await order(shop, "anna", 1)
    await dead(shop, 1)
    mend(shop, "reject-1")
    await order(shop, "anna", 2)
    await eventually(lambda: starts(shop, 2) == [1])
    for _ in range(3):
        assert len(redrive(shop)) == 1
    mend(shop, "hold-2")
    await eventually(lambda: done(shop) == [2, 1])
    await dead(shop)
    await at_rest(shop)
    assert starts(shop, 1) == [1, 1]


@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_the_next_owner_keeps_its_attempts_and_the_time_of_the_next(shop: Shop, end: str) -> None:
    await shop.open(RESTS)
    (first,) = await running(shop)
    touch(shop, "fail-1")
    await order(shop, "anna", 1)
    await dead(shop, 1)
    mend(shop, "fail-1")
    touch(shop, "rest")
    redrive(shop)
    await first.seen(r"attempt 1 of 3 at ORDERS:1 failed; retrying in 8 s")
    began = shop.notes("start")[-1]["at"]
    (second,) = await running(shop)
    if end == "kill":
        first.kill()
    else:
        first.terminate()
        await first.ended()
    await second.seen("owns 1 of 1 shard")
    second.kill()
    await running(shop)
    await order(shop, "anna", 2)
    await eventually(lambda: done(shop) == [1, 2])
    assert starts(shop, 1) == [1, 2, 3, 1, 2]
    assert shop.notes("start")[-2]["at"] - began >= 7.9
    await at_rest(shop)


async def test_one_that_rests_goes_on_before_an_older_one_that_is_sent_back_meanwhile(shop: Shop) -> None:
    """Its owner dies, and the next knows how often it has failed, and until when it rests."""
    await shop.open(RESTS)
    (first,) = await running(shop)
    touch(shop, "fail-1", "fail-2")
    await order(shop, "anna", 1, 2)
    await dead(shop, 1, 2)
    mend(shop, "fail-1", "fail-2")
    touch(shop, "rest")
    redrive(shop, "2")
    await first.seen(r"attempt 1 of 3 at ORDERS:2 failed; retrying in 8 s")
    began = shop.notes("start")[-1]["at"]
    mend(shop, "rest")
    redrive(shop, "1")
    first.kill()
    await running(shop)
    await eventually(lambda: done(shop) == [2, 1])
    assert (starts(shop, 1), starts(shop, 2)) == ([1, 2, 3, 1], [1, 2, 3, 1, 2])
    assert shop.notes("start")[-2]["at"] - began >= 7.9
    await dead(shop)
    await at_rest(shop)


async def test_one_of_another_history_of_its_stream_runs_and_keeps_nothing_new_away(shop: Shop) -> None:
    """The stream is made again: what died in it has a higher number than all that is there now."""
    await shop.open(CHARGE)
    (process,) = await running(shop)
    touch(shop, "reject-3")
    await order(shop, "anna", 1, 2, 3)
    await dead(shop, 3)
    process.terminate()
    await process.ended()
    await shop.js.api("STREAM.DELETE.ORDERS")
    await shop.js.create("ORDERS", ["orders.>"])
    mend(shop, "reject-3")
    await running(shop, 2)
    redrive(shop)
    await order(shop, "anna", 4, 5)
    await eventually(lambda: sorted(done(shop)) == [1, 2, 3, 4, 5])
    await dead(shop)
    await at_rest(shop)


async def test_one_that_is_given_up_again_parks_its_key_where_the_function_parks(shop: Shop) -> None:
    """A key is not parked behind one that has expired; behind one that was sent back and failed it is."""
    await shop.open(CHARGE.replace("attempts=3)", "attempts=1), on_exhausted='park', max_age=0.3"))
    await order(shop, "anna", 1)
    await asyncio.sleep(0.5)  # its age is the point
    await running(shop, 2)
    (letter,) = await dead(shop, 1)
    assert reason(letter) == "expired"
    touch(shop, "reject-1")
    redrive(shop)
    await eventually(lambda: _letters(shop, [2]))
    await order(shop, "anna", 2)
    await eventually(lambda: _parked(shop, 1))
    assert starts(shop, 1) == [1]
    refused = shop.project.runner("deadletter", "redrive", "--all")
    assert (refused.code, refused.stdout) == (1, "0 redriven, 1 failed\n")
    assert "dead letter 2 is kept: key anna of charge is parked" in refused.stderr
    mend(shop, "reject-1")
    assert shop.project.runner("deadletter", "redrive", "--key", "anna").code == 0
    await eventually(lambda: done(shop) == [1, 2])
    await at_rest(shop)


async def _parked(shop: Shop, count: int) -> bool:
    return await shop.js.count("PARKED") == count
