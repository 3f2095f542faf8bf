"""Each firing of a schedule is delivered once in the cluster; it runs again only if its process died in it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial
from itertools import pairwise

import pytest
from anyio import to_thread

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.since("2.14", "schedules")]

TICKS = "$JETRUNNER.tick.shop.beat"
BEAT = """
    from runner import cron

    @cron("@every 1s", output="paid.beat", overlap="allow", retry=RetryPolicy.fixed(0.05))
    async def beat(ctx: Context) -> str:
        note("beat", sequence=ctx.sequence, attempt=ctx.attempt, due=ctx.scheduled.isoformat(), pid=os.getpid())
        if os.path.exists("kill"):
            os.unlink("kill")
            os.kill(os.getpid(), signal.SIGKILL)
        return ctx.scheduled.isoformat()
"""
SLOW = """
    from runner import cron

    @cron("@every 1s", overlap="{overlap}")
    async def beat(ctx: Context) -> None:
        note("begin", sequence=ctx.sequence)
        while os.path.exists("slow"):
            await asyncio.sleep(0.01)
        note("end", sequence=ctx.sequence)
"""
FAILING = """
    from runner import cron

    @cron("@every 1s")
    async def beat(ctx: Context) -> None:
        note("beat", sequence=ctx.sequence, due=ctx.scheduled.isoformat())
        if os.path.exists("fail"):
            raise Reject("no")
"""
NEVER = """
    from runner import cron

    @cron("0 0 1 1 *", retry=RetryPolicy.fixed(0.05, attempts=2))
    async def beat(ctx: Context) -> None:
        note("beat", sequence=ctx.sequence, due=ctx.scheduled.isoformat())
        if os.path.exists("fail"):
            raise OSError("no")
"""


async def ready(process: RunnerProcess) -> RunnerProcess:
    await process.seen("ready: beat")
    return process


async def fired(shop: Shop, count: int) -> list[int]:
    """The sequences of the firings that the server has made, once there are so many."""
    found = await eventually(lambda: _ticks(shop, count))
    return [each for each in found if each]


async def _ticks(shop: Shop, count: int) -> list[int]:
    found = [each.sequence for each in await shop.js.messages("JETRUNNER", TICKS)]
    return found if len(found) >= count else []


async def test_each_firing_makes_its_output_once_on_two_instances(shop: Shop) -> None:
    await shop.open(BEAT)
    await ready(shop.run())
    await ready(shop.run())
    first = len(await fired(shop, 1))
    ticks = await fired(shop, first + 4)
    await eventually(lambda: len(shop.notes("beat")) >= len(ticks))
    assert Counter(each["sequence"] for each in shop.notes("beat")).most_common(1)[0][1] == 1
    due = [
        datetime.fromisoformat(each["due"])
        for each in sorted(shop.notes("beat"), key=lambda each: each["sequence"])
    ]
    gaps = [round((later - earlier).total_seconds()) for earlier, later in pairwise(due)]
    assert min(gaps) == 1, "a server that stood still leaves some out, and makes none twice"


async def test_a_firing_whose_process_dies_runs_again_and_its_output_stands_once(shop: Shop) -> None:
    await shop.open(BEAT)
    instances = [await ready(shop.run()), await ready(shop.run())]
    (shop.project.root / "kill").touch()
    await eventually(lambda: not all(each.running for each in instances))
    dead = next(each.pid for each in instances if not each.running)
    last = [each["sequence"] for each in shop.notes("beat") if each["pid"] == dead][-1]
    await eventually(lambda: [each["sequence"] for each in shop.notes("beat")].count(last) == 2)
    stored = [each.body for each in await shop.js.messages("PAID")]
    assert len(stored) == len({*stored})


async def test_after_a_time_without_an_instance_only_the_latest_missed_firing_runs(shop: Shop) -> None:
    await shop.open(BEAT)
    process = await ready(shop.run())
    await eventually(lambda: shop.notes("beat"))
    process.terminate()
    assert await process.ended() == 0
    ran = {each["sequence"] for each in shop.notes("beat")}
    missed = [each for each in await fired(shop, len(ran) + 4) if each not in ran]
    await ready(shop.run())
    await eventually(lambda: {each["sequence"] for each in shop.notes("beat")} - ran)
    later = sorted({each["sequence"] for each in shop.notes("beat")} - ran)
    assert later[0] >= missed[-1]


async def test_with_skip_what_is_due_while_an_earlier_firing_runs_is_left_out(shop: Shop) -> None:
    await shop.open(SLOW.format(overlap="skip"))
    slow = shop.project.root / "slow"
    slow.touch()
    await ready(shop.run())
    await ready(shop.run())
    await eventually(lambda: shop.notes("begin"))
    ticks = await fired(shop, len(await _ticks(shop, 0)) + 3)
    assert len(shop.notes("begin")) == 1
    slow.unlink()
    await eventually(lambda: len(shop.notes("begin")) > 1)
    assert shop.notes("begin")[1]["sequence"] > ticks[-2]


async def test_with_allow_it_runs_beside_it(shop: Shop) -> None:
    await shop.open(SLOW.format(overlap="allow"))
    (shop.project.root / "slow").touch()
    await ready(shop.run())
    await eventually(lambda: len(shop.notes("begin")) >= 2)
    assert not shop.notes("end")


async def test_a_firing_that_the_server_makes_twice_runs_once(shop: Shop, nats_server: NatsServer) -> None:
    """After a SIGKILL it knows of no firing since its last clean stop, and makes the last one again."""
    await shop.open(NEVER)
    await ready(shop.run())
    headers = {
        "Nats-Schedule": "*/5 * * * * *",
        "Nats-Schedule-Target": TICKS,
        "Nats-Schedule-TTL": "1h",
        "Nats-TTL": "never",
    }
    await shop.js.publish("$JETRUNNER.cron.shop.beat", b"", headers)
    await to_thread.run_sync(nats_server.stop)
    await to_thread.run_sync(nats_server.start)
    await eventually(lambda: _ticks(shop, 1))
    twice: list[int] = []
    for _ in range(3):  # one that comes back after the next was due makes that one, and not three times
        seen = len(await _ticks(shop, 0))
        await eventually(partial(_ticks, shop, seen + 1))
        await to_thread.run_sync(nats_server.kill)
        await to_thread.run_sync(nats_server.start)
        await eventually(partial(_twice_or_more, shop, seen + 4))
        if twice := await _made_twice(shop):
            break
    assert twice
    await eventually(lambda: {each["sequence"] for each in shop.notes("beat")} & {*twice})
    await shop.settled("beat", stream="JETRUNNER")
    assert len({each["sequence"] for each in shop.notes("beat")} & {*twice}) == 1


async def _twice_or_more(shop: Shop, count: int) -> bool:
    return bool(await _made_twice(shop) or await _ticks(shop, count))


async def _made_twice(shop: Shop) -> list[int]:
    made: dict[str, list[int]] = {}
    for each in await shop.js.messages("JETRUNNER", TICKS):
        made.setdefault(each.headers["Nats-Schedule-Next"], []).append(each.sequence)
    return next((each for each in made.values() if len(each) > 1), [])


async def test_a_firing_that_is_given_up_is_a_dead_letter_and_comes_back_with_its_time(shop: Shop) -> None:
    await shop.open(NEVER)
    fail = shop.project.root / "fail"
    fail.touch()
    await ready(shop.run())
    assert shop.project.runner("schedule", "fire", "beat").code == 0
    (letter,) = await eventually(shop.dead)
    assert letter.headers["Jetrunner-Dead-Reason"] == "exhausted"
    fail.unlink()
    assert shop.project.runner("deadletter", "redrive", "--all").code == 0
    await eventually(lambda: len(shop.notes("beat")) == 3)
    assert len({each["due"] for each in shop.notes("beat")}) == 1


async def test_run_makes_a_schedule_that_is_missing_and_tells_of_one_that_is_another(shop: Shop) -> None:
    await shop.open(NEVER)
    process = await ready(shop.run())
    (there,) = await shop.js.messages("JETRUNNER", "$JETRUNNER.cron.shop.beat")
    assert there.headers["Nats-Schedule"] == "0 0 0 1 1 *"
    process.terminate()
    await process.ended()
    shop.write(BEAT.replace("@every 1s", "@every 60s"))
    other = await ready(shop.run())
    await other.seen("the schedule of beat on the server differs")
    (still,) = await shop.js.messages("JETRUNNER", "$JETRUNNER.cron.shop.beat")
    assert still.sequence == there.sequence


async def test_a_firing_of_the_server_that_is_given_up_keeps_its_time_when_it_is_sent_back(
    shop: Shop,
) -> None:
    """The server takes no message that says of itself when it fires next (10212)."""
    await shop.open(FAILING)
    fail = shop.project.root / "fail"
    fail.touch()
    await ready(shop.run())
    letter = (await eventually(shop.dead))[0]
    assert letter.headers["Jetrunner-Dead-Reason"] == "rejected"
    given_up = shop.notes("beat")[0]
    fail.unlink()
    done = shop.project.runner("deadletter", "redrive", str(letter.sequence))
    assert done.code == 0, done.stderr
    await eventually(lambda: [each["due"] for each in shop.notes("beat")].count(given_up["due"]) == 2)
