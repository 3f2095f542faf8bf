"""A gather is called once for each event, also where its server is away when it ends, and never with the parts of none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import anyio
import pytest

from runner import Context, gather
from runner.pipeline import gathering
from runner.testing.app import App, Output
from runner.testing.plugin import Jetrunner
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop
from tests.support.splitting import QUICK, Line, place, split

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WAITS = """
    from pathlib import Path
    from runner import gather

    @consume("orders.{id}", output="paid.{id}")
    async def split(order: Order):
        yield 0
        yield 1

    @gather("paid.{id}", retry=RetryPolicy(attempts=1))
    async def total(parts: list[int], id: str) -> None:
        note("run", parts=parts)
        while not Path("go").exists():
            await asyncio.sleep(0.02)
        note("end")
        if id == "2":
            raise Reject("not these")
"""


@pytest.mark.parametrize("order", [1, 2], ids=["succeeds", "is refused"])
async def test_one_that_ends_while_the_server_is_away_does_not_run_again(
    shop: Shop, nats_server: NatsServer, order: int
) -> None:
    await shop.open(WAITS)
    shop.run()
    await shop.order(order)
    await shop.noted("run")
    await asyncio.to_thread(nats_server.stop)
    (shop.project.root / "go").touch()
    await shop.noted("end")
    await asyncio.sleep(1.0)  # the server is away for longer than a settlement is kept for a new connection
    await asyncio.to_thread(nats_server.start)
    await shop.settled("total", stream="PAID")
    assert [each["parts"] for each in shop.notes("run")] == [[0, 1]]
    assert len(await shop.dead()) == (order == 2)


async def test_one_that_ends_while_the_stream_of_parts_is_full_makes_room_and_does_not_run_again(
    cluster: Cluster, make_project: Callable[..., Project]
) -> None:
    """On three servers, which refuse any write into a full stream, also one that would replace a larger message."""
    async with RawJetStream.connect(cluster.url) as js:
        shop = Shop(js, cluster.url, make_project)
        await shop.open(WAITS, num_replicas=3)
        shop.run()
        await shop.order(1)
        await shop.noted("run")
        stream = await js.stream("GATHER")
        assert stream["config"]["num_replicas"] == 3
        full = {"max_bytes": stream["state"]["bytes"], "discard": "new"}
        await js.api("STREAM.UPDATE.GATHER", stream["config"] | full)
        (shop.project.root / "go").touch()
        await shop.settled("total", stream="PAID")
        assert [each["parts"] for each in shop.notes("run")] == [[0, 1]]
        await eventually(partial(_holds, js, 1))  # the record that it was joined


async def _holds(js: RawJetStream, count: int) -> bool:
    return len(await js.messages("GATHER")) == count


BUSY = 7
"""Events that take all slots but one."""


async def test_an_event_whose_parts_are_purged_while_it_waits_for_a_slot_is_not_joined_without_any(
    jetrunner: Jetrunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gathering, "LINGER_SECONDS", 0.3
    )  # the last slot takes in all that is published at once
    calls: list[tuple[str, list[int], tuple[int, ...]]] = []
    goes_on = anyio.Event()

    @gather("priced.{name}", retry=QUICK, expires=2.0)
    async def total(lines: list[Line], name: str, ctx: Context) -> None:
        calls.append((name, [line.n for line in lines], ctx.missing))
        await goes_on.wait()

    async with jetrunner(split, total) as app, RawJetStream.connect(app.url) as raw:
        names = [str(number) for number in range(BUSY + 3)]
        for name in names:
            await app.publish(f"orders.{name}", {"lines": 2})
        for name in names[:BUSY]:
            await _priced(app, name)
        await eventually(lambda: len(calls) == BUSY)
        async with anyio.create_task_group() as tasks:
            for name in names[BUSY:]:
                tasks.start_soon(_priced, app, name)
        await eventually(partial(_named, raw, BUSY + 3))
        await eventually(lambda: len(calls) == BUSY + 1)
        await raw.api("STREAM.PURGE.GATHER")
        goes_on.set()
        await app.settled(within=60)
        whole = [each for each in calls if each[1:] == ([0, 1], ())]
        assert len(whole) == BUSY + 1
        assert [len(lines) + len(missing) for _, lines, missing in calls] == [2] * len(calls)


async def test_the_end_of_an_events_time_while_it_is_joined_leaves_nothing_for_longer(
    jetrunner: Jetrunner,
) -> None:
    goes_on = anyio.Event()

    @gather("priced.{name}", retry=QUICK, expires=1.0)
    async def total(lines: list[Line], name: str) -> None:
        await goes_on.wait()

    async with jetrunner(split, total) as app, RawJetStream.connect(app.url) as raw:
        await app.publish("orders.1", {"lines": 2})
        for part in await eventually(partial(_both, app, "1")):
            await app.publish("priced.1", part.body, headers=place(part))
            await eventually(lambda: raw.count("JETRUNNER"))  # the end of its time is scheduled

        async def its_time_is_over() -> bool:
            durables = [each for each in await raw.consumers("JETRUNNER") if each.endswith("-total")]
            return any([(await raw.consumer("JETRUNNER", each))["num_ack_pending"] for each in durables])

        await eventually(its_time_is_over)
        goes_on.set()
        await app.settled(within=30)  # the next look was a minute later


async def _priced(app: App, name: str) -> None:
    """Publish the parts of an event to the subject that is gathered."""
    for part in await eventually(partial(_both, app, name)):
        await app.publish(f"priced.{name}", part.body, headers=place(part))


async def _both(app: App, name: str) -> list[Output]:
    found = await app.outputs(f"lines.{name}")
    return found if len(found) == 2 else []


async def _named(raw: RawJetStream, events: int) -> bool:
    """Whether the records of so many events name the message that runs the function."""
    records = [each for each in await raw.messages("GATHER") if each.subject.endswith(".state")]
    return len({each.subject for each in records if b'"r":' in each.body}) == events
