"""A gather joins what it should, whatever else is published, or stands in its stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from runner import Context, Reject, consume, gather
from runner.jetstream.gathered import SplitEvent
from runner.testing.app import App, Output
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.splitting import QUICK, Line, place, split

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def totalling(expires: float) -> Callable[..., Any]:
    """The function that joins, which waits so long for parts."""

    @gather("priced.{name}", output="totals.{name}", retry=QUICK, expires=expires)
    async def total(lines: list[Line], name: str, ctx: Context) -> dict[str, Any]:
        return {"id": name, "lines": [line.n for line in lines], "missing": ctx.missing}

    return total


total = totalling(20.0)
hasty = totalling(2.0)
"""Of events that lack parts: each takes this long."""
patient = totalling(8.0)
"""The same of those in which something has to happen before that: whoever stands still meanwhile is not too late."""


async def made(app: App, count: int) -> list[Output]:
    """So many parts of an event, which nothing has joined yet."""
    await app.publish("orders.1", {"lines": count})

    async def all_of_them() -> list[Output]:
        found = await app.outputs("lines.1")
        return found if len(found) == count else []

    return await eventually(all_of_them)


def event_of(part: Output) -> SplitEvent:
    return SplitEvent("test", "total", place(part)["Jetrunner-Batch"])


async def stored(app: App, parts: list[Output]) -> None:
    """Publish parts, and return once they are taken in: the function has nothing in its work."""
    for part in parts:
        await app.publish("priced.1", part.body, headers=place(part))
    async with RawJetStream.connect(app.url) as raw:
        await eventually(lambda: raw.settled("TEST", "test-total"))


async def totals(app: App) -> list[dict[str, Any]]:
    return [each.decode() for each in await app.outputs("totals.>")]


async def joined(app: App) -> list[tuple[list[int], list[int]]]:
    """The parts that each call had, and those that were missing."""
    return [(each["lines"], each["missing"]) for each in await totals(app)]


async def test_a_publishers_header_does_not_tell_where_a_part_was_published(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, total) as app:
        for part in await made(app, 2):
            headers = place(part) | {"Jetrunner-Part-Subject": "priced.other"}
            await app.publish("priced.1", part.body, headers=headers)
        await app.settled()
        assert [each["id"] for each in await totals(app)] == ["1"]


@pytest.mark.parametrize("stray", ["0.x", "0.-1", "0.\u0661", "1.1", "0.99999999999"])
async def test_what_somebody_else_stores_among_the_parts_changes_nothing(
    jetrunner: Jetrunner, stray: str
) -> None:
    async with jetrunner(split, total) as app:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        await app.publish(f"{event_of(parts[0]).subject}.{stray}", "stray")
        await stored(app, parts[1:])
        await app.settled()
        assert await joined(app) == [([0, 1], [])]


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"m":"zz"}', b"[]"])
@pytest.mark.parametrize("come", [2, 3])
async def test_a_record_that_cannot_be_read_loses_no_part(
    jetrunner: Jetrunner, garbage: bytes, come: int
) -> None:
    async with jetrunner(split, total if come == 3 else patient) as app:
        parts = await made(app, 3)
        await stored(app, parts[:2])
        await app.publish(f"{event_of(parts[0]).subject}.state", garbage, headers={"Nats-Rollup": "sub"})
        await stored(app, parts[2:come])
        await app.settled()
        assert await joined(app) == [([0, 1, 2][:come], [2][: 3 - come])]


async def test_where_the_message_that_should_run_is_gone_with_its_stream_the_event_is_joined_when_its_time_is_over(
    jetrunner: Jetrunner,
) -> None:
    async with jetrunner(split, patient) as app:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        record = b'{"m":"1","n":2,"r":"GONE:1"}'
        await app.publish(f"{event_of(parts[0]).subject}.state", record, headers={"Nats-Rollup": "sub"})
        await app.settled()
        assert await joined(app) == [([0], [1])]


async def test_only_our_own_stream_ends_the_time_of_an_event(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, total) as app:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        ends = {"Jetrunner-Gather-Expired": place(parts[0])["Jetrunner-Batch"]}
        await app.publish("priced.1", b"", headers=ends)
        await eventually(app.dead_letters)
        await stored(app, parts[1:])
        await app.settled()
        assert await joined(app) == [([0, 1], [])]
        assert [each.reason for each in await app.dead_letters()] == ["undecodable"]


async def test_a_split_that_has_made_more_parts_the_second_time_is_joined_with_all_of_them(
    jetrunner: Jetrunner,
) -> None:
    async with jetrunner(split, total) as app:
        first, *others = await made(app, 3)
        await app.publish("priced.1", first.body, headers=place(first, Count="2"))
        async with RawJetStream.connect(app.url) as raw:
            await eventually(lambda: raw.settled("TEST", "test-total"))
        await stored(app, others)
        await app.settled()
        assert await joined(app) == [([0, 1, 2], [])]


async def test_a_stream_of_parts_that_is_deleted_is_made_anew_and_the_end_of_its_events_comes(
    jetrunner: Jetrunner,
) -> None:
    async with jetrunner(split, patient) as app, RawJetStream.connect(app.url) as raw:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        await raw.api("STREAM.DELETE.GATHER")
        await app.settled()
        await stored(app, parts[1:])
        await app.settled()
        assert await joined(app) == [([1], [0])]


async def test_the_end_of_an_event_comes_though_the_stream_of_schedules_was_deleted(
    jetrunner: Jetrunner,
) -> None:
    async with jetrunner(split, hasty) as app, RawJetStream.connect(app.url) as raw:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        await raw.api("STREAM.DELETE.JETRUNNER")
        await app.settled(within=60)
        assert await joined(app) == [([0], [1])]


async def test_the_end_of_an_event_comes_though_somebody_has_purged_the_schedules(
    jetrunner: Jetrunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.pipeline.expiries.LOOK_SECONDS", 0.0)
    async with jetrunner(split, hasty) as app, RawJetStream.connect(app.url) as raw:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        await raw.api("STREAM.PURGE.JETRUNNER")
        await app.settled(within=60)
        assert await joined(app) == [([0], [1])]


@pytest.mark.parametrize("refuses", [False, True])
async def test_an_event_that_is_being_joined_while_the_stream_of_parts_is_deleted_ends_once(
    jetrunner: Jetrunner, refuses: bool
) -> None:
    runs, goes_on = anyio.Event(), anyio.Event()

    @gather("priced.{name}", output="totals.{name}", retry=QUICK, expires=20.0)
    async def total(lines: list[Line], name: str) -> dict[str, Any]:
        runs.set()
        await goes_on.wait()
        if refuses:
            raise Reject("not these")
        return {"id": name, "lines": [line.n for line in lines], "missing": []}

    async with jetrunner(split, total) as app, RawJetStream.connect(app.url) as raw:
        parts = await made(app, 2)
        for part in parts:
            await app.publish("priced.1", part.body, headers=place(part))
        await runs.wait()
        await raw.api("STREAM.DELETE.GATHER")
        goes_on.set()
        await app.settled()
        assert await joined(app) == ([] if refuses else [([0, 1], [])])
        assert [each.reason for each in await app.dead_letters()] == ["rejected"] * refuses
        if not refuses:
            await stored(app, parts[:1])
            await app.settled()
            assert await joined(app) == [([0, 1], [])], "a part that comes late is dropped"


FORGED = {"Jetrunner-Batch": "f" * 32, "Jetrunner-Index": "0", "Jetrunner-Count": "3"}


@pytest.mark.parametrize(
    "odd",
    [
        {"Jetrunner-Index": "3"},
        {"Jetrunner-Index": "-1"},
        {"Jetrunner-Index": "0,0"},
        {"Jetrunner-Count": "1000000000"},
        {"Jetrunner-Count": "-"},
        {"Jetrunner-Count": ""},
        {"Jetrunner-Batch": ">"},
    ],
)
async def test_headers_that_tell_no_place_make_a_dead_letter_and_touch_no_event(
    jetrunner: Jetrunner, odd: dict[str, str]
) -> None:
    async with jetrunner(split, total) as app:
        parts = await made(app, 2)
        await stored(app, parts[:1])
        await app.publish("priced.2", {"n": 1}, headers=FORGED | odd)
        await stored(app, parts[1:])
        await app.settled()
        assert await joined(app) == [([0, 1], [])]
        assert [each.reason for each in await app.dead_letters()] == ["undecodable"]


@gather("priced.{name}", output="totals.{name}")
async def second(lines: list[Line]) -> dict[str, Any]:
    return {"id": "second", "lines": [line.n for line in lines]}


async def test_two_functions_join_the_same_parts(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, total, second) as app:
        await stored(app, await made(app, 2))
        await app.settled()
        found = {each["id"]: each["lines"] for each in await totals(app)}
        assert found == {"1": [0, 1], "second": [0, 1]}


@consume("lines.{name}", output="priced.{name}", batch=3, linger=0.01)
async def by_batches(lines: list[Line]) -> list[Line]:
    return [Line(line.n * 10) for line in lines]


@consume("lines.{name}", output="priced.{name}", ordered_by="name")
def in_order(line: Line) -> Line:
    return Line(line.n * 10)


@pytest.mark.parametrize("between", [by_batches, in_order])
async def test_parts_go_through_functions_of_other_kinds(
    jetrunner: Jetrunner, between: Callable[..., Any]
) -> None:
    async with jetrunner(split, between, total) as app:
        for name, lines in (("a", 5), ("b", 0), ("c", 3)):
            await app.publish(f"orders.{name}", {"lines": lines})
        await app.settled()
        found = {each["id"]: each["lines"] for each in await totals(app)}
        assert found == {"a": [0, 10, 20, 30, 40], "b": [], "c": [0, 10, 20]}


@gather("lines.{name}", output="totals.{name}")
async def count(lines: list[Line]) -> bool:
    return [each.n for each in lines] == [*range(3500)]


async def test_more_parts_than_one_batch_of_the_server_takes_are_joined(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, count) as app:
        await app.publish("orders.1", {"lines": 3500})
        await app.settled(within=60)
        assert [each.decode() for each in await app.outputs("totals.>")] == [True]
