"""Functions with `@cron`, tested with the kit: nothing fires there by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from runner import Context, Reject, RetryPolicy, consume, cron, testing
from runner.errors import UsageError
from runner.testing.plugin import Jetrunner

pytestmark = pytest.mark.anyio

BERLIN = ZoneInfo("Europe/Berlin")


@cron("0 3 * * *", timezone="Europe/Berlin", output="reports.daily", retry=RetryPolicy(attempts=3, delay=600))
async def report(ctx: Context) -> str:
    if ctx.attempt < 2:
        raise OSError("no route")
    return f"{ctx.scheduled:%Y-%m-%d}"


@cron("@every 1s", output="beats.thread")
def beat(ctx: Context) -> str:
    return ctx.scheduled.isoformat()


@cron("@every 1s", output="parts.one")
async def parts(ctx: Context) -> AsyncIterator[int]:
    for number in range(3):
        yield number


@cron("@every 1s", output="parts.two")
def thread_parts() -> Iterator[str]:
    yield "a"
    yield "b"


@cron("@hourly", retry=RetryPolicy(attempts=1))
async def refuse(ctx: Context) -> None:
    raise Reject("never")


@consume("reports.daily")
async def read(body: bytes) -> None: ...


async def test_a_context_tells_when_a_firing_was_due() -> None:
    due = datetime(2031, 5, 4, 3, tzinfo=BERLIN)
    assert await report(testing.context(scheduled=due, attempt=2)) == "2031-05-04"
    with pytest.raises(RuntimeError, match="has no schedule"):
        _ = testing.context().scheduled
    with pytest.raises(ValueError, match="scheduled=.*no timezone"):
        testing.context(scheduled=datetime(2031, 5, 4, 3))  # noqa: DTZ001  that is what is wrong


async def test_a_delivery_is_of_the_time_that_is_told_in_the_zone_of_the_schedule() -> None:
    done = await testing.deliver(report, scheduled=datetime(2031, 5, 3, 23, 30, tzinfo=UTC), attempt=2)
    assert (done.outcome, done.result) == ("ack", "2031-05-04")
    assert [each.subject for each in done.outputs] == ["reports.daily"]


async def test_without_a_time_it_is_the_last_one_before_now() -> None:
    done = await testing.deliver(report, attempt=2)
    now = datetime.now(BERLIN)
    last = now if now.hour >= 3 else now - timedelta(days=1)
    assert done.result in (f"{last:%Y-%m-%d}", f"{last - timedelta(days=1):%Y-%m-%d}")


async def test_a_failure_is_retried_by_the_policy() -> None:
    done = await testing.deliver(report)
    assert (done.outcome, isinstance(done.error, OSError)) == ("retry", True)


async def test_fire_runs_a_function_once_and_its_retries(jetrunner: Jetrunner) -> None:
    async with jetrunner(report, read, retry_scale=0.0001) as app:
        await app.fire(report)
        await app.settled()
        (output,) = await app.outputs("reports.daily")
        assert output.body.decode() == f"{datetime.now(BERLIN):%Y-%m-%d}"
        assert await app.dead_letters() == []


async def test_no_schedule_fires_by_itself_in_a_test(jetrunner: Jetrunner) -> None:
    async with jetrunner(beat, parts, thread_parts) as app:
        await app.settled()
        for function in (beat, parts, thread_parts):
            await app.fire(function)
        await app.settled()
        assert len(await app.outputs("beats.thread")) == 1
        assert [each.decode() for each in await app.outputs("parts.one")] == [0, 1, 2]
        assert [each.body for each in await app.outputs("parts.two")] == [b"a", b"b"]


async def test_each_fire_of_a_function_that_skips_runs_nonetheless(jetrunner: Jetrunner) -> None:
    async with jetrunner(beat) as app:
        for _ in range(5):
            await app.fire(beat)
        await app.settled()
        assert len(await app.outputs("beats.thread")) == 5


async def test_what_is_given_up_is_a_dead_letter(jetrunner: Jetrunner) -> None:
    async with jetrunner(refuse) as app:
        await app.fire(refuse)
        await app.settled()
        (letter,) = await app.dead_letters()
        assert (letter.reason, letter.function) == ("rejected", "refuse")


async def test_only_what_has_a_schedule_can_be_fired(jetrunner: Jetrunner) -> None:
    async with jetrunner(read) as app:
        with pytest.raises(UsageError, match="read has no schedule"):
            await app.fire(read)
