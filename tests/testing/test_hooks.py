"""What a hook may do with an attempt, shown by `deliver`, and which hooks run in tests."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from runner import Context, PartialFailure, Reject, Retry, RetryPolicy, around, consume, cron, gather, testing
from runner.errors import UsageError
from runner.hooks import hook_of
from runner.testing import Delivered
from runner.testing.plugin import Jetrunner

pytestmark = pytest.mark.anyio

Call = Callable[[], Awaitable[Any]]
Hook = Callable[[Context, Call], Awaitable[Any]]

tenant = ContextVar("tenant", default="nobody")
seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@consume("orders.{customer}", output="paid.{customer}", timeout=0.3)
async def charge(order: dict[str, Any], customer: str, ctx: Context) -> dict[str, Any]:
    seen.append((tenant.get(), customer))
    await ctx.publish("audit", {"by": "handler"})
    match order.get("note"):
        case "fail":
            raise OSError("no route")
        case "hang":
            await asyncio.sleep(600)
    return order


@consume("orders.{customer}", output="paid.{customer}")
def charge_in_a_thread(order: dict[str, Any], customer: str) -> dict[str, Any]:
    seen.append((tenant.get(), customer))
    return order


@consume("orders.{customer}", output="paid.{customer}")
async def split(order: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    seen.append((tenant.get(), "ada"))
    yield order


@consume("orders.{customer}", output="paid.{customer}")
def split_in_a_thread(order: dict[str, Any], customer: str) -> Iterator[dict[str, Any]]:
    seen.append((tenant.get(), customer))
    yield order


@consume("orders.{customer}", output="paid.{customer}", batch=10)
async def charge_many(orders: list[dict[str, Any]], customer: list[str]) -> list[dict[str, Any]]:
    seen.append((tenant.get(), customer[0]))
    return orders


@consume("orders.{customer}", output="paid.{customer}", batch=10)
def split_many(orders: list[dict[str, Any]], customer: list[str]) -> Iterator[dict[str, Any]]:
    seen.append((tenant.get(), customer[0]))
    yield from orders


@gather("orders.{customer}", output="paid.{customer}")
async def join(orders: list[dict[str, Any]], customer: str) -> dict[str, Any]:
    seen.append((tenant.get(), customer))
    return orders[0]


ONE = (charge, charge_in_a_thread, join)
LISTS = (split, split_in_a_thread, charge_many)
EVERY = (*ONE, *LISTS, split_many)


async def around_it(hook: Hook, function: Callable[..., Any] = charge, **body: Any) -> Delivered:
    """Deliver an order with one hook around the function."""
    given = [body] if function is join else body
    return await testing.deliver(
        function, "orders.ada", given, around=[hook if hook_of(hook) else around(hook)]
    )


@pytest.mark.parametrize("function", EVERY, ids=lambda each: each.__name__)
async def test_a_hook_runs_around_a_handler_of_whatever_kind(function: Callable[..., Any]) -> None:
    async def hook(ctx: Context, call: Call) -> None:
        tenant.set(ctx.params["customer"])
        seen.append(await call())
        seen.append("after")

    done = await around_it(hook, function, id=1)
    assert done.outcome == "ack", done.error
    listed = [{"id": 1}] if function not in ONE else {"id": 1}
    assert seen == [("ada", "ada"), listed, "after"]
    assert [(each.subject, each.body) for each in done.outputs if each.subject != "audit"] == [
        ("paid.ada", b'{"id":1}')
    ]


@pytest.mark.parametrize("function", EVERY, ids=lambda each: each.__name__)
async def test_what_a_hook_returns_takes_the_place_of_the_result(function: Callable[..., Any]) -> None:
    async def hook(ctx: Context, call: Call) -> Any:
        answer = {"id": 2}
        return answer if function in ONE else [answer]

    done = await around_it(hook, function, id=1)
    assert (done.outcome, seen) == ("ack", [])
    assert [(each.subject, each.body) for each in done.outputs] == [("paid.ada", b'{"id":2}')]


@pytest.mark.parametrize("function", [*LISTS, split_many], ids=lambda each: each.__name__)
async def test_in_the_place_of_a_list_stands_a_list(function: Callable[..., Any]) -> None:
    async def hook(ctx: Context, call: Call) -> Any:
        return {"id": 2}

    done = await around_it(hook, function, id=1)
    assert done.outcome == "retry"
    assert "hook returned a dict in place of a list" in str(done.error)


async def test_hooks_run_inside_of_each_other() -> None:
    def hook(name: str) -> Hook:
        async def run(ctx: Context, call: Call) -> dict[str, Any]:
            seen.append(name)
            return {**await call(), name: True}

        return around(run)

    outer, inner = hook("outer"), hook("inner")
    done = await testing.deliver(charge, "orders.ada", {}, around=[outer, inner])
    assert seen == ["outer", "inner", ("nobody", "ada")]
    assert done.result == {"inner": True, "outer": True}


async def test_a_hook_that_forgets_the_handler_fails_the_attempt() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        if ctx.attempt > 1:
            await call()

    done = await around_it(hook)
    assert (done.outcome, seen) == ("retry", [])
    assert isinstance(done.error, RuntimeError)
    assert f"the hook {__name__}.{hook.__qualname__} returned None and has not awaited call()" in str(
        done.error
    )


@pytest.mark.filterwarnings("ignore:coroutine 'HookCall.__call__' was never awaited")
async def test_a_call_that_is_not_awaited_is_none() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        call()

    assert "has not awaited call()" in str((await around_it(hook)).error)
    gc.collect()


async def test_a_second_call_is_an_error() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        await call()
        await call()

    done = await around_it(hook)
    assert (done.outcome, len(seen)) == ("retry", 1)
    assert "has awaited call() twice" in str(done.error)


async def test_a_call_after_the_hook_has_returned_is_an_error() -> None:
    kept: list[Call] = []

    async def hook(ctx: Context, call: Call) -> dict[str, Any]:
        kept.append(call)
        return {}

    assert (await around_it(hook)).outcome == "ack"
    with pytest.raises(RuntimeError, match="has ended, and its call"):
        await kept[0]()
    assert seen == []


async def test_the_errors_of_a_handler_pass_through_a_hook() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        try:
            await call()
        finally:
            seen.append("after")

    done = await around_it(hook, note="fail")
    assert (done.outcome, str(done.error)) == ("retry", "no route")
    assert seen[-1] == "after"


async def test_an_error_that_a_hook_only_looks_at_stands() -> None:
    """A hook that forgets to raise it again loses no message."""

    async def hook(ctx: Context, call: Call) -> None:
        try:
            await call()
        except OSError:
            seen.append("caught")

    done = await around_it(hook, note="fail")
    assert (done.outcome, str(done.error), seen[-1]) == ("retry", "no route", "caught")


async def test_a_hook_may_answer_for_a_handler_that_has_failed_and_drops_what_that_has_published() -> None:
    async def hook(ctx: Context, call: Call) -> dict[str, Any]:
        await ctx.publish("audit", {"by": "hook, before"})
        try:
            return await call()  # type: ignore[no-any-return]
        except OSError:
            await ctx.publish("audit", {"by": "hook, after"})
            return {"id": "none"}

    done = await around_it(hook, note="fail")
    assert done.outcome == "ack"
    assert [each.body for each in done.outputs] == [
        b'{"by":"hook, before"}', b'{"by":"hook, after"}', b'{"id":"none"}',
    ]  # fmt: skip


async def test_a_hook_that_answers_makes_a_failed_message_a_handled_one() -> None:
    @consume("orders.ada")
    async def never(order: dict[str, Any]) -> None:
        raise OSError("no route")

    async def hook(ctx: Context, call: Call) -> bool:
        try:
            await call()
        except OSError:
            return True
        return False

    done = await around_it(hook, never)
    assert (done.outcome, done.outputs) == ("ack", ())


async def test_what_a_hook_publishes_goes_with_the_attempt() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        await ctx.publish("audit", {"by": "before"})
        await call()
        await ctx.publish("audit", {"by": "after"})

    done = await around_it(hook)
    assert [each.body for each in done.outputs[:3]] == [
        b'{"by":"before"}', b'{"by":"handler"}', b'{"by":"after"}',
    ]  # fmt: skip
    assert (await around_it(hook, note="fail")).outputs == ()


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (Reject("no"), "dead_letter", "rejected"),
        (Retry("later", after=7.0), "retry", ""),
        (KeyError("x"), "retry", ""),
    ],
)
async def test_what_a_hook_raises_is_as_if_the_handler_had(
    error: Exception, outcome: str, reason: str
) -> None:
    async def before(ctx: Context, call: Call) -> None:
        raise error

    async def after(ctx: Context, call: Call) -> None:
        await call()
        raise error

    for hook in (before, after):
        done = await around_it(hook)
        assert (done.outcome, done.reason, done.error) == (outcome, reason, error)
        assert done.outputs == ()


async def test_a_timeout_cancels_through_the_hook() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        try:
            await call()
        finally:
            seen.append("after")

    done = await around_it(hook, note="hang")
    assert done.outcome == "retry"
    assert seen[-1] == "after"


async def test_a_hook_has_the_timeout_of_the_function() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        await call()
        await asyncio.sleep(600)

    done = await around_it(hook)
    assert (done.outcome, done.outputs) == ("retry", ())


async def test_a_hook_may_give_the_handler_less_time() -> None:
    async def hook(ctx: Context, call: Call) -> Any:
        with anyio.move_on_after(0.02):
            return await call()
        raise Retry("too slow", after=3.0)

    done = await around_it(hook, note="hang")
    assert (done.outcome, done.delay) == ("retry", 3.0)


@pytest.mark.parametrize("answer", [None, {"id": "cached"}])
async def test_no_handler_runs_on_when_its_hook_has_ended(answer: Any) -> None:
    ended = asyncio.Event()

    @consume("orders.ada")
    async def slow(order: dict[str, Any], ctx: Context) -> None:
        await ctx.publish("audit", {})
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            ended.set()

    @around
    async def hook(ctx: Context, call: Call) -> Any:
        running = asyncio.ensure_future(call())
        await asyncio.wait({running}, timeout=0.02)
        return answer

    done = await testing.deliver(slow, body={}, around=[hook])
    assert ended.is_set()
    if answer is None:
        assert isinstance(done.error, asyncio.CancelledError)
        assert done.outcome != "ack"
    else:
        assert (done.outcome, done.outputs) == ("ack", ())


async def test_a_body_that_does_not_decode_reaches_no_hook() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        seen.append("hook")

    done = await testing.deliver(charge, "orders.ada", b"{", around=[around(hook)])
    assert (done.reason, seen) == ("undecodable", [])


async def test_a_returned_awaitable_is_awaited_before_the_hook_goes_on() -> None:
    async def work() -> str:
        seen.append("work")
        return "done"

    @consume("orders.ada")
    def later(order: dict[str, Any]) -> Awaitable[str]:
        return work()

    async def hook(ctx: Context, call: Call) -> Any:
        seen.append(await call())
        return work()

    assert (await around_it(hook, later)).result == "done"
    assert seen == ["work", "done", "work"]


async def test_a_hook_of_a_batch_has_the_context_of_the_batch() -> None:
    async def hook(ctx: Context, call: Call) -> None:
        seen.append([each.subject for each in ctx.messages])
        ctx.messages[0].publish("audit", {"by": "hook"})
        await call()

    done = await around_it(hook, charge_many, id=1)
    assert seen == [["orders.ada"], ("nobody", "ada")]
    assert [each.subject for each in done.outputs] == ["audit", "paid.ada"]


async def test_a_partial_failure_passes_through_a_hook() -> None:
    @consume("orders.ada", batch=10)
    async def many(orders: list[dict[str, Any]]) -> None:
        raise PartialFailure({0: Reject("no value")})

    async def hook(ctx: Context, call: Call) -> None:
        try:
            await call()
        except PartialFailure as failure:
            seen.append({**failure.failures})
            raise

    done = await around_it(hook, many)
    assert (done.outcome, done.reason) == ("dead_letter", "rejected")
    assert [*seen[0]] == [0]


async def test_a_hook_runs_around_a_firing() -> None:
    @cron("@hourly")
    def report() -> None:
        seen.append("report")

    @around
    async def hook(ctx: Context, call: Call) -> None:
        seen.append(ctx.scheduled.minute)
        await call()

    assert (await testing.deliver(report, around=[hook])).outcome == "ack"
    assert seen == [0, "report"]


class TestOfAModule:
    """Functions of another module, which has hooks of its own."""

    @pytest.fixture
    def shop(self) -> dict[str, Any]:
        source = """
from runner import around, consume

seen = []

@around(scope="module")
async def of_the_module(ctx, call):
    seen.append("module")
    await call()

@around
async def of_the_project(ctx, call):
    seen.append("project")
    await call()

@consume("orders.{id}")
async def charge(order: dict):
    seen.append("charge")
"""
        namespace: dict[str, Any] = {"__name__": "shop"}
        exec(source, namespace)
        return namespace

    async def test_its_own_hooks_run_and_those_of_the_project_where_they_are_given(
        self, shop: dict[str, Any]
    ) -> None:
        await testing.deliver(shop["charge"], "orders.1", {})
        assert shop["seen"] == ["module", "charge"]
        shop["seen"].clear()
        both = (shop["of_the_module"], shop["of_the_project"])
        await testing.deliver(shop["charge"], "orders.1", {}, around=both)
        assert shop["seen"] == ["project", "module", "charge"]

    async def test_a_modules_hook_runs_around_no_other_function(self, shop: dict[str, Any]) -> None:
        await testing.deliver(charge, "orders.ada", {}, around=[shop["of_the_module"]])
        assert (shop["seen"], len(seen)) == ([], 1)

    @pytest.mark.parametrize("way", ["among the functions", "by name"])
    async def test_they_run_on_a_server_too(
        self, shop: dict[str, Any], jetrunner: Jetrunner, way: str
    ) -> None:
        hook = shop["of_the_project"]
        ways = {"among the functions": ((hook,), ()), "by name": ((), (hook,))}
        functions, given = ways[way]
        async with jetrunner(shop["charge"], *functions, around=given) as app:
            await app.publish("orders.1", {})
            await app.settled()
        assert shop["seen"] == ["project", "module", "charge"]


async def test_what_is_no_hook_is_told() -> None:
    with pytest.raises(UsageError, match="'charge' is not a hook") as caught:
        await testing.deliver(charge, "orders.ada", {}, around=[charge])
    assert "@around" in caught.value.hint


async def test_a_hook_sees_each_attempt(jetrunner: Jetrunner) -> None:
    @consume("orders.ada", retry=RetryPolicy.fixed(1.0, attempts=3))
    async def never(order: dict[str, Any]) -> None:
        raise OSError("no route")

    @around
    async def hook(ctx: Context, call: Call) -> None:
        try:
            await call()
        except OSError:
            seen.append(ctx.attempt)
            raise

    async with jetrunner(never, hook, retry_scale=0.001) as app:
        await app.publish("orders.ada", {})
        await app.settled()
        [letter] = await app.dead_letters("never")
    assert (letter.reason, seen) == ("exhausted", [1, 2, 3])
