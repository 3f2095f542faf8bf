"""Hooks run around every attempt, wherever that runs: an attempt ends as if the handler had done what its hooks did."""

from __future__ import annotations

import os
import signal
from itertools import pairwise

import pytest

from runner.telemetry.receiver import Receiver
from tests.guarantees.test_cells import SECOND, in_cell, suspected
from tests.support.eventually import eventually
from tests.support.shop import Shop, reason
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

HOOK = """
    from contextvars import ContextVar
    from runner import around, cron, gather

    tenant = ContextVar("tenant", default="nobody")

    @around
    async def hook(ctx: Context, call):
        note("before", function=ctx.function, subject=ctx.subject, attempt=ctx.attempt, pid=os.getpid(), saw=tenant.get())
        token = tenant.set(ctx.subject)
        try:
            result = await call()
        except BaseException as error:
            note("failed", error=type(error).__name__, function=ctx.function)
            raise
        finally:
            tenant.reset(token)
        note("after", function=ctx.function, result=repr(result))
"""
KINDS = {
    "async": "async def charge(order: Order) -> Order:",
    "async with its context": "async def charge(order: Order, ctx: Context) -> Order:",
    "in a thread": "def charge(order: Order) -> Order:",
}


@pytest.mark.parametrize("ordered", ["", ', ordered_by="id"'], ids=["unordered", "ordered"])
@pytest.mark.parametrize("handler", KINDS.values(), ids=KINDS)
async def test_a_hook_runs_around_each_attempt_and_what_it_binds_is_seen_by_its_own_message_alone(
    shop: Shop, handler: str, ordered: str
) -> None:
    await shop.open(
        HOOK
        + f"""
    failed = set()

    @consume("orders.{{id}}", output="paid.{{id}}", retry=RetryPolicy.fixed(0.01, attempts=2) {ordered})
    {handler}
        note("run", tenant=tenant.get(), id=order.id)
        if order.id % 3 == 0 and order.id not in failed:
            failed.add(order.id)
            raise OSError("once more")
        if order.id == 7:
            raise Reject("no")
        return order
    """
    )
    await shop.order(*range(30))
    shop.run()
    await shop.settled("charge-0-0" if ordered else "charge")
    runs = shop.notes("run")
    assert len(runs) == 40
    assert all(each["tenant"] == f"orders.{each['id']}" for each in runs)
    assert {each["saw"] for each in shop.notes("before")} == {"nobody"}
    assert sorted((each["subject"], each["attempt"]) for each in shop.notes("before")) == sorted(
        (f"orders.{at}", attempt) for at in range(30) for attempt in ((1, 2) if at % 3 == 0 else (1,))
    )
    assert [each["error"] for each in shop.notes("failed")].count("Reject") == 1
    assert len(shop.notes("after")) == 29
    letter = await shop.dead_letter()
    assert (letter.headers["Jetrunner-Dead-Subject"], reason(letter)) == ("orders.7", "rejected")

    async def stored() -> bool:  # an output is stored once the hook around its attempt has ended
        return await shop.js.count("PAID") == 29

    await eventually(stored)


async def test_a_variable_that_a_hook_leaves_behind_is_seen_by_no_other_message(shop: Shop) -> None:
    await shop.open(
        """
    from contextvars import ContextVar
    from runner import around

    tenant = ContextVar("tenant", default="nobody")

    @around
    async def hook(ctx, call):
        note("saw", tenant=tenant.get())
        tenant.set(ctx.subject)
        await call()

    @consume("orders.{id}", concurrency=2)
    async def charge(order: Order) -> None:
        note("run", tenant=tenant.get(), id=order.id)
    """
    )
    await shop.order(*range(20))
    shop.run()
    await shop.settled("charge")
    assert {each["tenant"] for each in shop.notes("saw")} == {"nobody"}
    assert {(each["tenant"], each["id"]) for each in shop.notes("run")} == {
        (f"orders.{at}", at) for at in range(20)
    }


async def test_a_message_is_not_acknowledged_because_a_hook_forgot_it(shop: Shop) -> None:
    await shop.open(
        """
    from runner import around

    @around
    async def forgetful(ctx, call):
        note("hook")

    @consume("orders.{id}", retry=RetryPolicy.fixed(0.01, attempts=2))
    async def charge(order: Order) -> None:
        note("run")
    """
    )
    await shop.order(1)
    shop.run()
    letter = await shop.dead_letter()
    assert reason(letter) == "exhausted"
    assert (
        "functions.shop.forgetful returned None and has not awaited call()"
        in letter.headers["Jetrunner-Dead-Message"]
    )
    assert (len(shop.notes("hook")), shop.notes("run")) == (2, [])


@pytest.mark.parametrize("ordered", ["", ', ordered_by="id"'], ids=["unordered", "ordered"])
@pytest.mark.parametrize("handler", ["async def", "def"])
async def test_a_timeout_ends_the_hook_and_the_next_attempt_of_a_key_starts_after_it(
    shop: Shop, handler: str, ordered: str
) -> None:
    await shop.open(
        f"""
    from runner import around

    @around
    async def hook(ctx, call):
        try:
            await call()
        finally:
            try:
                await asyncio.sleep(0.01)
            finally:
                note("end", attempt=ctx.attempt)

    @consume("orders.{{id}}", timeout=0.3, retry=RetryPolicy.fixed(0.01, attempts=9) {ordered})
    {handler} charge(order: Order, ctx: Context) -> None:
        note("run", attempt=ctx.attempt)
        if ctx.attempt == 1:
            {"await asyncio.sleep(600)" if handler == "async def" else "time.sleep(0.7)"}
            note("slept")
    """
    )
    await shop.order(1)
    shop.run()
    await shop.settled("charge-0-0" if ordered else "charge")
    attempts = [each["attempt"] for each in shop.notes("run")]
    assert len(attempts) > 1, "two, and one for each time that all stood still for as long as the timeout"
    assert attempts == list(range(1, len(attempts) + 1))
    story = sorted([*shop.notes("run"), *shop.notes("end")], key=lambda each: each["at"])
    assert [each["what"] for each in story] == ["run", "end"] * len(attempts)
    assert len(shop.notes("slept")) == (1 if handler == "def" else 0)
    assert await shop.dead() == []


async def test_a_thread_keeps_its_key_though_its_hook_gives_it_up(shop: Shop) -> None:
    """Nothing of a key starts while a thread of an earlier attempt still runs."""
    await shop.open(
        """
    from runner import around

    limits = []

    @around
    async def impatient(ctx, call):
        async with asyncio.timeout(60) as limit:
            limits.append((asyncio.get_running_loop(), limit))
            await call()

    @consume("orders.{id}", ordered_by="id", retry=RetryPolicy.fixed(0.01, attempts=2))
    def charge(order: Order, ctx: Context) -> None:
        note("begin", attempt=ctx.attempt)
        if ctx.attempt == 1:
            loop, limit = limits[-1]
            loop.call_soon_threadsafe(limit.reschedule, loop.time())
            while not os.path.exists("open"):
                time.sleep(0.01)
        note("end", attempt=ctx.attempt)
    """
    )
    await shop.order(1)
    process = shop.run()
    await process.seen("charge: a hook was cancelled, and waits for its thread")
    (shop.project.root / "open").touch()
    await shop.noted("end", 2)
    story = sorted([*shop.notes("begin"), *shop.notes("end")], key=lambda each: each["at"])
    assert [(each["what"], each["attempt"]) for each in story] == [
        ("begin", 1), ("end", 1), ("begin", 2), ("end", 2),
    ]  # fmt: skip


async def test_what_a_hook_publishes_and_answers_is_stored_once_with_the_attempt(shop: Shop) -> None:
    await shop.open(
        """
    from runner import around

    @around
    async def hook(ctx, call):
        await ctx.publish(f"audit.{ctx.params['id']}", {"attempt": ctx.attempt})
        order = await call()
        return {"id": order.id, "by": "hook"}

    @consume("orders.{id}", output="paid.{id}", retry=RetryPolicy.fixed(0.01))
    async def charge(order: Order, ctx: Context) -> Order:
        if ctx.attempt == 1:
            raise OSError("once more")
        return order
    """
    )
    await shop.order(1, 2)
    shop.run()
    await shop.settled("charge")
    assert [each.json()["attempt"] for each in await shop.js.messages("AUDIT")] == [2, 2]
    assert [each.json()["by"] for each in await shop.js.messages("PAID")] == ["hook", "hook"]


async def test_a_body_that_does_not_decode_reaches_no_hook(shop: Shop) -> None:
    await shop.open(HOOK + '\n    @consume("orders.{id}")\n    async def charge(order: Order) -> None: ...\n')
    await shop.js.publish("orders.1", "{")
    shop.run()
    assert reason(await shop.dead_letter()) == "undecodable"
    assert shop.notes("before") == []


@pytest.mark.parametrize("ordered", ["", ', ordered_by="id"'], ids=["unordered", "ordered"])
async def test_a_hook_runs_around_each_call_of_a_batch(shop: Shop, ordered: str) -> None:
    await shop.open(
        f"""
    from runner import around

    @around
    async def hook(ctx, call):
        note("hook", ids=[each.params["id"] for each in ctx.messages], sequences=[each.sequence for each in ctx.messages])
        for each in ctx.messages:
            each.publish("audit.all", {{"sequence": each.sequence}})
        results = await call()
        return [result and {{"sequence": result["sequence"] * 10}} for result in results]

    @consume("orders.{{id}}", batch=50, linger=0.5, output="paid.{{id}}", retry=RetryPolicy.fixed(0.01, attempts=1) {ordered})
    async def charge(orders: list[Order], ctx: Context) -> list:
        if any(order.note == "bad" for order in orders):
            raise ValueError("bad")
        return [{{"sequence": each.sequence}} for each in ctx.messages]
    """
    )
    for number in range(8):
        await shop.order(1, note="bad" if number == 4 else "")
    shop.run()
    await shop.dead_letter()
    await shop.settled("charge-0-0" if ordered else "charge")
    assert sorted(await paid(shop, 7)) == [10, 20, 30, 40, 60, 70, 80]
    calls = [each["sequences"] for each in shop.notes("hook")]
    assert max(len(each) for each in calls) > 1, "the messages came together"
    assert [5] in calls
    assert sorted(each.json()["sequence"] for each in await shop.js.messages("AUDIT")) == [
        1,
        2,
        3,
        4,
        6,
        7,
        8,
    ]


async def paid(shop: Shop, count: int) -> list[int]:
    """What PAID holds, once there are so many."""

    async def stored() -> bool:
        return await shop.js.count("PAID") >= count

    await eventually(stored)
    return [each.json()["sequence"] for each in await shop.js.messages("PAID")]


@pytest.mark.since("2.14", "schedules")
async def test_hooks_run_around_generators_joins_and_firings(shop: Shop) -> None:
    await shop.open(
        HOOK
        + """
    @consume("orders.{id}", output="paid.{id}")
    async def split(order: Order):
        note("run", tenant=tenant.get())
        for number in range(3):
            yield {"number": number}

    @gather("paid.{id}", output="audit.{id}")
    def join(parts: list[dict]) -> list[int]:
        note("run", tenant=tenant.get())
        return [part["number"] for part in parts]

    @cron("@every 1s")
    async def beat() -> None:
        note("run", tenant=tenant.get())
    """
    )
    await shop.order(1)
    shop.run()
    await eventually(lambda: {each["function"] for each in shop.notes("after")} == {"split", "join", "beat"})
    await shop.settled("join", stream="PAID")
    after = {each["function"]: each["result"] for each in shop.notes("after")}
    assert after["join"] == "[0, 1, 2]"
    assert after["split"] == "[{'number': 0}, {'number': 1}, {'number': 2}]"
    await shop.noted("run", 3)
    tenants = {each["tenant"] for each in shop.notes("run")}
    assert {"orders.1", "paid.1"} <= tenants
    assert "$JETRUNNER.tick.shop.beat" in tenants
    assert [each.json() for each in await shop.js.messages("AUDIT")] == [[0, 1, 2]]


@pytest.mark.parametrize("handler", ["async def", "def"])
async def test_a_hook_of_a_handler_in_a_process_runs_there(shop: Shop, handler: str) -> None:
    await shop.open(
        HOOK
        + f"""
    @consume("orders.{{id}}", output="paid.{{id}}", executor="process", concurrency=1, timeout=1.0, retry=RetryPolicy.fixed(0.01, attempts=9))
    {handler} charge(order: Order, ctx: Context) -> Order:
        note("run", tenant=tenant.get(), pid=os.getpid())
        if order.note == "slow" and ctx.attempt == 1:
            {"await asyncio.sleep(600)" if handler == "async def" else "time.sleep(600)"}
        return order
    """
    )
    await shop.order(1)
    await shop.order(2, note="slow")
    process = shop.run()
    await shop.settled("charge")
    runs = [each["tenant"] for each in shop.notes("run")]
    assert list(dict.fromkeys(runs)) == ["orders.1", "orders.2"]
    assert runs.count("orders.2") > 1, "twice, and once more for each time that all stood still for so long"
    pids = {each["pid"] for each in shop.notes("run")}
    assert pids == {each["pid"] for each in shop.notes("before")}
    assert process.pid not in pids
    assert len(pids) > 1, "the process of the one that took too long is ended"
    assert {each["error"] for each in shop.notes("failed")} == {"CancelledError"}
    assert await shop.js.count("PAID") == 2


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_a_hook_of_what_may_have_killed_its_process_runs_in_its_cell(shop: Shop, kind: str) -> None:
    await shop.open(HOOK + SECOND.format(body="pass", kind=kind, timeout=60.0))
    await shop.order(1)
    await suspected(shop)
    process = shop.run()
    await shop.settled("charge")
    assert in_cell(shop, process)
    assert [each["pid"] for each in shop.notes("before")][-1] == shop.notes("there")[-1]["pid"]
    assert len(shop.notes("after")) == 1
    assert await shop.js.count("PAID") == 1


async def test_a_stop_lets_a_hook_clean_up(shop: Shop) -> None:
    await shop.open(
        """
    from runner import around

    @around
    async def hook(ctx, call):
        try:
            await call()
        finally:
            note("cleaned")

    @consume("orders.{id}", timeout=600.0)
    async def charge(order: Order) -> None:
        note("run")
        await asyncio.sleep(600)
    """
    )
    await shop.order(1)
    process = shop.run(JETRUNNER_DRAIN_TIMEOUT="0.3")
    await shop.noted("run")
    os.kill(process.pid, signal.SIGTERM)
    assert await process.ended() == 0
    assert len(shop.notes("cleaned")) == 1
    shop.run()
    await shop.noted("run", 2)  # it was given back: its ack wait would be longer


async def test_a_key_keeps_its_order_through_hooks_that_fail(shop: Shop) -> None:
    await shop.open(
        """
    import random
    from runner import around

    @around
    async def hook(ctx, call):
        if random.random() < 0.3:
            raise OSError("before")
        await call()
        if random.random() < 0.3:
            raise OSError("after")
        note("done", key=ctx.key, sequence=ctx.sequence)

    @consume("orders.{id}", ordered_by="id", retry=RetryPolicy.fixed(0.01, attempts=50))
    async def charge(order: Order) -> None:
        await asyncio.sleep(0)
    """
    )
    for _ in range(10):
        await shop.order(1, 2, 3)
    shop.run()
    await shop.noted("done", 30)
    done = shop.notes("done")
    assert len(done) == 30
    for key in "123":
        sequences = [each["sequence"] for each in done if each["key"] == key]
        assert all(first < second for first, second in pairwise(sequences))


async def test_what_a_hook_does_stands_in_the_span_of_its_attempt(shop: Shop) -> None:
    await shop.open(
        """
    from opentelemetry import trace
    from runner import around

    user = trace.get_tracer("user.code")

    @around
    async def hook(ctx, call):
        with user.start_as_current_span("hook"):
            await call()

    @consume("orders.{id}")
    async def charge(order: Order) -> None:
        user.start_span("handler").end()
    """
    )
    await shop.order(1)
    with Receiver() as receiver:
        shop.run(
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_TRACES_SAMPLER="always_on",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        await shop.settled("charge")
        await eventually(lambda: len(receiver.spans()) == 3)
        assert tree(receiver.spans()) == (
            "charge: charge consumer 1/5 ack message.ack\n  charge: hook internal\n    charge: handler internal"
        )
