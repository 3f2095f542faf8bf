"""A split event is joined once, with every part in its place; what is missing, late, double or given up is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from msgspec import Struct

from runner import Context, Reject, consume, gather
from runner.testing.app import App
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason
from tests.support.splitting import QUICK, Line, place, split

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@consume("lines.{name}", output="priced.{name}", retry=QUICK)
async def price(line: Line, name: str) -> Line | None:
    if name == "reject" and line.n == 1:
        raise Reject("no price")
    return None if name == "drop" and line.n == 1 else Line(line.n * 10)


def totalling(expires: float) -> Callable[..., Any]:
    """The function that joins, which waits so long for parts."""

    @gather("priced.{name}", output="totals.{name}", retry=QUICK, expires=expires)
    async def total(lines: list[Line], name: str, ctx: Context) -> dict[str, Any]:
        return {
            "id": name,
            "lines": [line.n for line in lines],
            "missing": ctx.missing,
            "subject": ctx.subject,
        }

    return total


total = totalling(20.0)
hasty = totalling(2.0)
"""Of events that lack parts: each takes this long."""


async def totals(app: App, subject: str = "totals.>") -> list[dict[str, Any]]:
    return [each.decode() for each in await app.outputs(subject)]


async def test_all_parts_come_in_the_order_in_which_they_were_made(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, price, total) as app:
        for number in range(3):
            await app.publish(f"orders.{number}", {"lines": number + 1})
        await app.settled()
        found = sorted(await totals(app), key=lambda each: str(each["id"]))
        assert [each["lines"] for each in found] == [[0], [0, 10], [0, 10, 20]]
        assert [each["subject"] for each in found] == ["priced.0", "priced.1", "priced.2"]


async def test_an_event_without_parts_is_joined_with_an_empty_list(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, price, total) as app:
        await app.publish("orders.1", {"lines": 0})
        await app.settled()
        assert [(each["id"], each["lines"]) for each in await totals(app)] == [("1", [])]


@pytest.mark.parametrize("name", ["drop", "reject"])
async def test_a_part_that_does_not_come_is_told_when_the_time_is_over(
    jetrunner: Jetrunner, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async with jetrunner(split, price, hasty) as app:
        for turn in range(1, 4):  # whoever stands still for so long lacks others, too, and not three times
            await app.publish(f"orders.{name}", {"lines": 3})
            await app.settled()
            assert len(await totals(app)) == turn
            if (last := (await totals(app))[-1])["missing"] == [1]:
                break
        assert f"total: priced.{name} is joined without 1 of its 3 parts" in caplog.text
        assert last == {"id": name, "lines": [0, 20], "missing": [1], "subject": f"priced.{name}"}


async def test_a_part_that_comes_after_the_end_is_dropped(
    jetrunner: Jetrunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with jetrunner(split, price, hasty) as app:
        await app.publish("orders.drop", {"lines": 2})
        await eventually(lambda: totals(app))
        (part, *_) = await app.outputs("priced.drop")
        late = {**place(part), "Jetrunner-Index": "1"}
        await app.publish("priced.drop", {"n": 10}, headers=late)
        await app.publish("priced.drop", {"n": 0}, headers=place(part))
        await app.settled()
        assert len(await totals(app)) == 1
        assert "total: late parts of an event that was joined before are dropped: " in caplog.text


async def test_a_part_that_comes_twice_counts_once(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, total) as app:
        await app.publish("orders.1", {"lines": 3})
        parts = await eventually(lambda: app.outputs("lines.1"))
        for part in (parts[0], parts[0], parts[2], parts[1], parts[1], parts[2]):
            await app.publish("priced.1", part.body, headers=place(part))
        await app.settled()
        assert [each["lines"] for each in await totals(app)] == [[0, 1, 2]]


class Crate(Struct):
    boxes: list[int]


@consume("crates.{name}", output="orders.{name}")
async def unpack(crate: Crate) -> AsyncIterator[dict[str, int]]:
    for number in crate.boxes:
        yield {"lines": number}


@gather("totals.{name}", output="crates_done.{name}")
async def pack(boxes: list[dict[str, Any]], ctx: Context) -> list[list[int]]:
    return [box["lines"] for box in boxes]


@pytest.mark.parametrize("boxes", [[2, 0, 3], [0], [], [1, 1, 1, 1]])
async def test_events_within_events_are_joined_from_the_inside(
    jetrunner: Jetrunner, boxes: list[int]
) -> None:
    async with jetrunner(unpack, split, price, total, pack) as app:
        await app.publish("crates.1", Crate(boxes))
        await app.settled()
        (done,) = await app.outputs("crates_done.>")
        assert done.decode() == [[10 * number for number in range(lines)] for lines in boxes]
        assert "Jetrunner-Batch" not in done.headers


failures: dict[str, int] = {}


@gather("priced.{name}", output="totals.{name}", retry=QUICK)
async def stubborn(lines: list[Line], name: str) -> dict[str, Any]:
    failures[name] = failures.get(name, 0) + 1
    if failures[name] <= 3:
        raise OSError("not today")
    return {"id": name, "lines": [line.n for line in lines]}


async def test_what_is_given_up_is_a_dead_letter_whose_redrive_runs_with_the_same_parts(
    jetrunner: Jetrunner, make_project: Callable[..., Any]
) -> None:
    failures.clear()
    async with jetrunner(split, price, stubborn) as app:
        await app.publish("orders.1", {"lines": 3})
        await app.settled()
        (letter,) = await app.dead_letters("stubborn")
        assert (letter.reason, letter.attempts, failures["1"]) == ("exhausted", 3, 3)
        redriven = make_project(nats=app.url, name="test").runner("deadletter", "redrive", "--all")
        assert redriven.code == 0, redriven.stderr
        await eventually(lambda: totals(app))
        await app.settled()
        assert [each["lines"] for each in await totals(app)] == [[0, 10, 20]]


@gather("priced.{name}", output="totals.{name}", max_bytes=20)
async def small(lines: list[Line]) -> int:
    return len(lines)


async def test_more_bytes_than_it_takes_are_a_dead_letter_with_its_reason(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, price, small) as app:
        await app.publish("orders.1", {"lines": 2})
        await app.publish("orders.2", {"lines": 9})
        await app.settled()
        (letter,) = await app.dead_letters("small")
        assert letter.reason == "rejected"
        assert "max_bytes" in letter.message
        assert [each.decode() for each in await app.outputs("totals.>")] == [2]


async def test_a_message_that_is_no_part_is_given_up_alone(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, price, total) as app:
        hostile = {"Jetrunner-Batch": "*.>", "Jetrunner-Index": "0", "Jetrunner-Count": "1"}
        await app.publish("priced.1", {"n": 1})
        await app.publish("priced.2", {"n": 1}, headers=hostile)
        await app.publish("orders.3", {"lines": 2})
        await app.settled()
        assert [each.reason for each in await app.dead_letters("total")] == ["undecodable"] * 2
        assert [each["id"] for each in await totals(app)] == ["3"]


async def test_a_part_that_cannot_be_decoded_is_given_up_and_missing(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, hasty) as app:
        await app.publish("orders.1", {"lines": 2})
        parts = await eventually(lambda: app.outputs("lines.1"))
        for part, body in zip(parts, [{"n": 0}, {"n": "x"}], strict=True):
            await app.publish("priced.1", body, headers=place(part))
        await app.settled()
        assert [(each["lines"], each["missing"]) for each in await totals(app)] == [([0], [1])]
        assert [each.reason for each in await app.dead_letters("total")] == ["undecodable"]


@gather("lines.{name}", output="joined.{name}")
def join_raw(lines: list[bytes], *, name: str, ctx: Context) -> bytes:
    return b"|".join(lines) + f" {name} {ctx.params['name']}".encode()


async def test_raw_bodies_and_threads(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, join_raw) as app:
        await app.publish("orders.1", {"lines": 2})
        await app.settled()
        assert [each.body for each in await app.outputs("joined.>")] == [b'{"n":0}|{"n":1} 1 1']


@gather("lines.{name}", output="halves.{name}")
async def halve(lines: list[Line]) -> AsyncIterator[list[int]]:
    middle = len(lines) // 2
    for half in (lines[:middle], lines[middle:]):
        yield [line.n for line in half]


@gather("halves.{name}", output="joined.{name}")
async def rejoin(halves: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return halves


async def test_what_is_joined_may_be_split_again(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, halve, rejoin) as app:
        await app.publish("orders.1", {"lines": 5})
        await app.settled()
        assert [each.decode() for each in await app.outputs("joined.>")] == [[[0, 1], [2, 3, 4]]]


KILLER = """
    from runner import gather

    @consume("orders.{name}", output="paid.{name}")
    async def split(order: Order):
        for number in range(3):
            yield {"id": order.id, "note": order.note, "n": number}

    @gather("paid.{name}", output="audit.{name}", retry=RetryPolicy.fixed(0.05))
    async def total(parts: list[dict]) -> int:
        if parts[0]["note"] == "killer":
            note("killing")
            os.kill(os.getpid(), signal.SIGKILL)
        return parts[0]["id"]
"""


async def test_an_event_that_kills_its_process_is_given_up_as_crashed_and_the_others_are_joined(
    shop: Shop,
) -> None:
    await shop.open(KILLER)
    await shop.order(1, note="killer")
    await shop.order(*range(2, 8))
    for _ in range(8):
        process = shop.run()
        await eventually(partial(_over, shop, process))
        if process.running:
            break
        for stream, function in (("ORDERS", "split"), ("PAID", "total")):
            await shop.give_back(function, stream=stream)
    (letter,) = await shop.dead()
    assert reason(letter) == "crashed"
    await eventually(lambda: shop.js.count("AUDIT"))
    await eventually(lambda: _audited(shop))


async def _over(shop: Shop, process: RunnerProcess) -> bool:
    return not process.running or bool(await shop.dead())


async def _audited(shop: Shop) -> bool:
    return {each.json() for each in await shop.js.messages("AUDIT")} == {*range(2, 8)}


LEAKS = """
    from runner import gather

    @consume("orders.{id}", output="paid.{id}")
    async def split(order: Order):
        for number in range(3):
            yield {"card": f"4000-secret-{number}", "n": number}

    @gather("paid.{id}", retry=RetryPolicy(attempts=1))
    async def total(parts: list[dict]) -> None:
        raise ValueError(" ".join(part["card"] for part in parts))
"""


async def test_what_is_not_shown_of_one_part_is_not_shown_of_the_event(shop: Shop) -> None:
    await shop.open(LEAKS)
    shop.project.settings('redact = ["card"]')
    process = shop.run()
    await shop.order(1)
    await shop.dead_letter()
    told = await process.seen("is a dead letter, exhausted")
    assert "[redacted] [redacted] [redacted]" in told
    assert "4000-secret" not in process.output
