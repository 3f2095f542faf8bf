"""Schedules go on whatever stands where they look: garbage, other programs' messages, things deleted underneath, other releases."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.since("2.14", "schedules")]

TICK, CRON, KEY = "$JETRUNNER.tick.shop.beat", "$JETRUNNER.cron.shop.beat", "$KV.jetrunner.cron.shop.beat"
BEAT = """
    from runner import cron

    @cron("{schedule}"{options}, retry=RetryPolicy.fixed({delay}, attempts={attempts}))
    async def beat(ctx: Context) -> None:
        note("beat", sequence=ctx.sequence, attempt=ctx.attempt, due=ctx.scheduled.isoformat(), stored=ctx.timestamp.isoformat())
        if os.path.exists("fail"):
            raise OSError("no")
        while os.path.exists("slow"):
            await asyncio.sleep(0.01)
        note("end", sequence=ctx.sequence)
"""


def beat(schedule: str = "@every 1s", options: str = "", *, delay: float = 0.05, attempts: int = 2) -> str:
    return BEAT.format(schedule=schedule, options=options, delay=delay, attempts=attempts)


async def started(shop: Shop, *arguments: str) -> RunnerProcess:
    process = shop.run(*arguments)
    await process.seen("ready: ")
    return process


async def goes_on(shop: Shop) -> None:
    """One more firing runs to its end."""
    count = len(shop.notes("end"))
    await eventually(lambda: len(shop.notes("end")) > count)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"started": 7}',
        b'{"started": {"x": -1}}',
        b'{"passed": -5}',
        b"\xff" * 50_000,
    ],
)
async def test_garbage_in_the_record_is_passed_over(shop: Shop, garbage: bytes) -> None:
    await shop.open(beat())
    process = await started(shop)
    await goes_on(shop)
    await shop.js.publish(KEY, garbage)
    await goes_on(shop)
    await goes_on(shop)
    assert process.running


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Jetrunner-Scheduled": "tomorrow"},
        {"Jetrunner-Scheduled": "9999-12-31T23:59:59-14:00"},
        {"Jetrunner-Cron": "* * * * * * * *"},
        {"Jetrunner-Cron": "@every 1ns", "Jetrunner-Scheduled": "0001-01-01T00:00:00Z"},
        {"Jetrunner-Cron": "@daily ../../etc/passwd"},
        {"Jetrunner-Origin-Stream": "ORDERS", "Jetrunner-Origin-Sequence": "x"},
    ],
)
async def test_a_firing_of_somebody_else_runs_and_nothing_stops(shop: Shop, headers: dict[str, str]) -> None:
    await shop.open(beat("0 0 1 1 *"))
    process = await started(shop)
    sequence = await shop.js.publish(TICK, b"a body", headers)
    await eventually(lambda: sequence in [each["sequence"] for each in shop.notes("end")])
    await shop.settled("beat", stream="JETRUNNER")
    assert process.running
    assert await shop.dead() == []


async def test_a_schedule_of_another_program_fires_and_stays_until_apply(shop: Shop) -> None:
    await shop.open(beat("0 0 1 1 *"))
    process = await started(shop)
    await shop.js.publish(CRON, b"", {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": TICK})
    await goes_on(shop)
    await goes_on(shop)
    assert process.running
    await shop.project.applied()
    (there,) = await shop.js.messages("JETRUNNER", CRON)
    assert there.headers["Nats-Schedule"] == "0 0 0 1 1 *"


async def test_a_schedule_that_is_deleted_is_made_again_by_the_next_instance(shop: Shop) -> None:
    await shop.open(beat())
    process = await started(shop)
    await goes_on(shop)
    await shop.js.api("STREAM.PURGE.JETRUNNER", {"filter": CRON})
    process.terminate()
    assert await process.ended() == 0
    await started(shop)
    await goes_on(shop)


async def test_a_durable_that_is_deleted_comes_back_where_it_was_saved_last(shop: Shop) -> None:
    """What has ended since may run again, as with every function."""
    await shop.open(beat())
    process = await started(shop)
    await goes_on(shop)
    await shop.js.api("CONSUMER.DELETE.JETRUNNER.shop-beat")
    await goes_on(shop)
    await goes_on(shop)
    assert process.running
    assert Counter(each["sequence"] for each in shop.notes("end")).most_common(1)[0][1] <= 2


async def test_after_its_stream_was_deleted_it_fires_again_from_the_first_message_on(shop: Shop) -> None:
    """The new stream counts from 1: nothing of it may pass for what was passed over in the old one."""
    await shop.open(beat())
    process = await started(shop)
    await goes_on(shop)
    for _ in range(1_000):  # far more than fire until the end
        await shop.js.client.publish("$JETRUNNER.again.shop.other", b"{}")
    for _ in range(3):
        await goes_on(shop)
    assert shop.notes("end")[-1]["sequence"] > 1_000
    process.terminate()
    assert await process.ended() == 0
    await shop.js.api("STREAM.DELETE.JETRUNNER")
    await started(shop)
    await goes_on(shop)
    assert shop.notes("end")[-1]["sequence"] < 500
    await goes_on(shop)


async def test_its_stream_may_be_deleted_while_it_runs(shop: Shop) -> None:
    await shop.open(beat())
    process = await started(shop)
    await goes_on(shop)
    await shop.js.api("STREAM.DELETE.JETRUNNER")
    await eventually(lambda: shop.project.runner("apply").code == 0)
    await goes_on(shop)
    assert process.running


async def test_a_function_becomes_one_with_a_schedule_and_back(shop: Shop) -> None:
    consume = """
    @consume("orders.*")
    async def beat(order: Order) -> None:
        note("order", id=order.id)
    """
    await shop.open(consume)
    process = await started(shop)
    await shop.order(1)
    await shop.noted("order")
    for source, works in ((beat(), None), (consume, 2)):
        process.terminate()
        assert await process.ended() == 0
        shop.write(source)
        await shop.project.applied()
        process = await started(shop)
        if works is None:
            await goes_on(shop)
        else:
            await shop.order(works)
            await eventually(lambda: [each["id"] for each in shop.notes("order")][-1] == 2)
    assert await shop.js.messages("JETRUNNER", CRON) == []
    assert [each["id"] for each in shop.notes("order")] == [1, 2], "what was done is not done again"
    assert process.running


async def test_of_two_projects_each_fires_its_own(shop: Shop) -> None:
    await shop.open(beat("0 0 1 1 *"))
    other = shop.make_project(
        name="shop2", functions={"shop": (shop.project.root / "functions/shop.py").read_text()}, nats=shop.url
    )
    await started(shop)
    await other.start("run").seen("ready: ")
    assert other.runner("schedule", "fire", "beat").code == 0
    await eventually(lambda: other.journal("end"))
    assert shop.notes("end") == []


async def test_only_the_chosen_functions_have_their_schedules_made(shop: Shop) -> None:
    await shop.open(beat() + beat("@every 2s").replace("def beat", "def other"))
    await started(shop, "--only", "other")
    subjects = [each.subject for each in await shop.js.messages("JETRUNNER", "$JETRUNNER.cron.>")]
    assert subjects == ["$JETRUNNER.cron.shop.other"]


async def test_of_two_releases_with_other_schedules_each_firing_runs_once(shop: Shop) -> None:
    await shop.open(beat("@every 1s"))
    await started(shop)
    shop.write(beat("@every 3s"))
    newer = await started(shop)
    await newer.seen("on the server differs")
    await shop.project.applied()
    for _ in range(3):
        await goes_on(shop)
    ran = Counter(each["sequence"] for each in shop.notes("beat"))
    assert ran.most_common(1)[0][1] == 1


async def test_a_firing_that_runs_at_sigterm_ends_and_is_settled(shop: Shop) -> None:
    await shop.open(beat("0 0 1 1 *"))
    slow = shop.project.root / "slow"
    slow.touch()
    process = await started(shop)
    await shop.js.publish(TICK, b"")
    await shop.noted("beat")
    process.terminate()
    await process.seen("draining")
    slow.unlink()
    assert await process.ended() == 0
    assert len(shop.notes("end")) == 1
    await shop.settled("beat", stream="JETRUNNER")


async def test_with_skip_a_firing_that_waits_for_its_retry_leaves_out_the_next(shop: Shop) -> None:
    await shop.open(beat(delay=3.0, attempts=9))
    fail = shop.project.root / "fail"
    fail.touch()
    await started(shop)
    first = (await shop.noted("beat"))[0]["sequence"]
    fail.unlink()
    await eventually(lambda: shop.notes("end"))
    assert [each["sequence"] for each in shop.notes("beat")][:2] == [first, first]
    assert shop.notes("end")[0]["sequence"] == first
    await goes_on(shop)
    ticks = [each.sequence for each in await shop.js.messages("JETRUNNER", TICK)]
    assert shop.notes("end")[1]["sequence"] >= ticks[:3][-1], "two were due meanwhile"


async def test_a_firing_that_takes_too_long_is_a_dead_letter_and_the_next_one_runs(shop: Shop) -> None:
    await shop.open(beat(options=", timeout=0.3", attempts=1))
    slow = shop.project.root / "slow"
    slow.touch()
    await started(shop)
    letter = await shop.dead_letter()
    assert letter.headers["Jetrunner-Dead-Reason"] == "timeout"
    slow.unlink()
    await goes_on(shop)
