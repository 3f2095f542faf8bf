"""A failed attempt is retried by the function's policy, and the handler always knows which attempt it is in."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise

import pytest
from nats.aio.msg import Msg

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def waits(notes: list[dict[str, float]]) -> list[float]:
    """Seconds between one attempt and the next."""
    return [later["at"] - earlier["at"] for earlier, later in pairwise(notes)]


def told(process: RunnerProcess, function: str) -> list[float]:
    """Seconds until the next attempt, as the log says them: a busy machine adds nothing to these."""
    lines = [json.loads(line) for line in process.stderr if '"retry_after"' in line]
    return [line["retry_after"] for line in lines if line["function"] == function]


async def given_back(shop: Shop) -> dict[str, list[float]]:
    """Listens to what the server is told from now on: seconds after which it is to deliver again, by function.

    A busy machine may add as much as an ack wait lasts; what is in here has not come again by that.
    """
    found: dict[str, list[float]] = defaultdict(list)

    async def hear(message: Msg) -> None:
        if message.data.startswith(b"-NAK"):
            told = json.loads(message.data[4:] or b"{}")
            found[message.subject.split(".")[3].removeprefix("shop-")].append(told.get("delay", 0) / 1e9)

    await shop.js.client.subscribe("$JS.ACK.ORDERS.>", cb=hear)
    await shop.js.client.flush()
    return found


def same(some: list[float], others: list[float]) -> bool:
    return sorted(some) == pytest.approx(sorted(others), abs=0.02)


async def test_each_constructor_of_the_policy_waits_as_it_says(shop: Shop) -> None:
    await shop.open("""
        def failing(name, policy):
            @consume("orders.{id}", name=name, retry=policy)
            async def handler(order: Order, ctx: Context) -> None:
                note(name, attempt=ctx.attempt, attempts=ctx.attempts)
                raise ValueError(name)
            return handler

        grows = failing("grows", RetryPolicy(attempts=4, delay=0.2, factor=2, jitter="none"))
        capped = failing("capped", RetryPolicy(attempts=4, delay=0.2, factor=10, max_delay=0.4, jitter="none"))
        equal = failing("equal", RetryPolicy(attempts=3, delay=0.6, factor=1, jitter="equal"))
        fixed = failing("fixed", RetryPolicy.fixed(0.3, attempts=3))
        spread = failing("spread", RetryPolicy.random(0.2, 0.5, attempts=4))
        listed = failing("listed", RetryPolicy.sequence(0.1, 0.5))
        never = failing("never", RetryPolicy(attempts=1))
    """)
    await shop.order(1)
    delays = await given_back(shop)
    process = shop.run("--log-format", "json")
    await shop.dead_letter(7)
    bounds = {
        "grows": [(0.2, 0.2), (0.4, 0.4), (0.8, 0.8)],
        "capped": [(0.2, 0.2), (0.4, 0.4), (0.4, 0.4)],
        "equal": [(0.3, 0.6), (0.3, 0.6)],
        "fixed": [(0.3, 0.3), (0.3, 0.3)],
        "spread": [(0.2, 0.5), (0.2, 0.5), (0.2, 0.5)],
        "listed": [(0.1, 0.1), (0.5, 0.5)],
        "never": [],
    }
    for name, expected in bounds.items():
        notes = shop.notes(name)
        assert [each["attempt"] for each in notes] == list(range(1, len(expected) + 2)), name
        assert {each["attempts"] for each in notes} == {len(expected) + 1}, name
        chosen = told(process, name)
        for waited, after, (least, most) in zip(waits(notes), chosen, expected, strict=True):
            assert least <= after <= most, (name, chosen)
            assert waited >= after - 0.02, (name, chosen, waits(notes))
        assert same(delays[name], chosen), (name, delays[name], chosen)
    assert {reason(letter) for letter in await shop.dead()} == {"exhausted"}


async def test_full_jitter_starts_at_no_wait_at_all(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy(attempts=2, delay=2.0))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            if ctx.attempt == 1:
                raise OSError("no bank")
    """)
    await shop.order(*range(40))
    delays = await given_back(shop)
    process = shop.run("--log-format", "json")
    await shop.settled("charge")
    assert sorted(each["id"] for each in shop.notes("run")) == sorted([*range(40), *range(40)])
    chosen = told(process, "charge")
    assert 0.0 <= min(chosen) < 1.0 < max(chosen) <= 2.0
    assert same(delays["charge"], chosen)
    assert await shop.dead() == []


async def test_retry_after_sets_its_own_delay_and_counts_as_an_attempt(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy(attempts=3, delay=60, jitter="none"))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", attempt=ctx.attempt)
            raise Retry("the bank is closed", after=0.3)
    """)
    await shop.order(1)
    delays = await given_back(shop)
    shop.run()
    letter = await shop.dead_letter()
    assert [each["attempt"] for each in shop.notes("run")] == [1, 2, 3]
    assert all(waited >= 0.28 for waited in waits(shop.notes("run")))
    assert same(delays["charge"], [0.3, 0.3])
    assert (reason(letter), letter.headers["Jetrunner-Dead-Error"]) == ("exhausted", "Retry")
    assert letter.headers["Jetrunner-Dead-Message"] == "the bank is closed"


async def test_retry_after_zero_comes_back_at_once(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy(attempts=3, delay=60, jitter="none"))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", attempt=ctx.attempt)
            if ctx.attempt < 3:
                raise Retry(after=0)
    """)
    await shop.order(1)
    shop.run()
    await shop.noted("run", 3)
    await shop.settled("charge")
    assert await shop.dead() == []


async def test_only_errors_of_retry_on_are_retried_and_never_those_of_reject_on(shop: Shop) -> None:
    await shop.open("""
        class Closed(OSError): ...
        class Gone(Closed): ...

        ERRORS = {0: OSError("x"), 1: Closed("x"), 2: Gone("x"), 3: ValueError("x"), 4: Retry("x", after=0)}
        policy = RetryPolicy.fixed(0.01, attempts=3, retry_on=(Closed,), reject_on=(Gone,))

        @consume("orders.{id}", retry=policy)
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            raise ERRORS[order.id]
    """)
    await shop.order(0, 1, 2, 3, 4)
    shop.run()
    await shop.dead_letter(5)
    runs = [sum(each["id"] == number for each in shop.notes("run")) for number in range(5)]
    assert runs == [1, 3, 1, 1, 3]
    reasons = {letter.json()["id"]: reason(letter) for letter in await shop.dead()}
    assert reasons == {0: "rejected", 1: "exhausted", 2: "rejected", 3: "rejected", 4: "exhausted"}


async def test_a_message_that_waits_for_its_retry_holds_nobody_up(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=2, retry=RetryPolicy.fixed(3600))
        async def charge(order: Order) -> None:
            if order.note == "bad":
                raise ValueError("later")
            note("done", id=order.id)
    """)
    await shop.order(*range(200), note="bad")
    await shop.order(1000)
    shop.run()
    await shop.noted("done")
    await eventually(lambda: _in_work(shop, 200))  # the server counts acks a moment after they have come


async def _in_work(shop: Shop, count: int) -> bool:
    return await shop.in_work("charge") == count
