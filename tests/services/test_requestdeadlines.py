"""Deadlines: what has not begun in time does not begin, and what has begun is ended."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest

from runner import Context, reply
from tests.services.conftest import Answering
from tests.support.asker import Asker, deadline
from tests.support.eventually import eventually

pytestmark = [pytest.mark.server, pytest.mark.anyio]

events: list[str] = []
go_on = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    events.clear()
    go_on.clear()


@reply("wait.{seconds}", timeout=0.3, concurrency=1)
async def wait(seconds: str, ctx: Context) -> float:
    left = ctx.deadline
    events.append("begins")
    try:
        await asyncio.sleep(int(seconds) / 1_000)
    except asyncio.CancelledError:
        events.append("cancelled")
        raise
    return left


@reply("brief.{who}", timeout=10, concurrency=1)
async def brief(ctx: Context) -> float:
    return ctx.deadline


@reply("open.*", timeout=120, concurrency=1)
async def until_open() -> None:
    events.append("begins")
    while not go_on.is_set():
        await asyncio.sleep(0.01)


@reply("stubborn.*", timeout=0.1, concurrency=1)
async def stubborn() -> str:
    events.append("begins")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        events.append("cancelled")
    return "too late"


@reply("deaf.*", timeout=0.1, concurrency=1)
async def deaf() -> str:
    while not go_on.is_set():
        try:
            await asyncio.sleep(60 if not go_on.is_set() else 0)
        except asyncio.CancelledError:
            events.append("ignored")
            while not go_on.is_set():
                await asyncio.sleep(0.01)
    return "very late"


@reply("thread.*", timeout=0.1, concurrency=1)
def thread() -> str:
    events.append("begins")
    go_on.wait(20)
    return "late"


async def test_a_handler_is_cancelled_at_its_timeout(answering: Answering) -> None:
    async with answering(wait) as (_, asker):
        answer = await asker.ask("wait.60000")
        assert (answer.code, answer.error, answer.not_started) == (408, "no result within 0.3 s", "")
        assert events == ["begins", "cancelled"]
        await eventually(lambda: answered(asker, "wait.1"))  # whoever stands still is late once more


async def test_the_askers_deadline_counts_where_it_is_sooner(answering: Answering) -> None:
    async with answering(wait, brief) as (_, asker):
        answer = await asker.ask("wait.60000", header=deadline(80))
        assert answer.code == 408
        assert answer.error.startswith("no result within 0.0")
        assert events == ["begins", "cancelled"]
        left = msgspec.json.decode((await asker.ask("brief.a", header=deadline(8_000))).body)
        assert 0 < left <= 8
        left = msgspec.json.decode((await asker.ask("brief.a", header=deadline(60_000))).body)
        assert 0 < left <= 10, "its own timeout, since that is sooner"


async def test_a_request_that_waits_past_its_deadline_is_not_run(answering: Answering) -> None:
    async with answering(until_open) as (_, asker):
        first = asker.asked("open.first")
        await eventually(lambda: events == ["begins"])
        second = await asker.ask("open.second", header=deadline(20))
        assert (second.code, second.not_started) == (408, "expired")
        go_on.set()
        assert (await first).code == 0
        assert events == ["begins"], "the second did not begin"


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ("0", 408), ("-1", 408), ("-99999999999999999", 0), ("", 0), ("soon", 0), ("1e3", 0), ("1_000", 0), ("٣٠٠", 0),
        ("999999999999999", 0), ("9" * 400, 0), ("nan", 0), ("inf", 0), ("0x10", 0), ("1500.75", 0), (" 1500 ", 0),
    ],
)  # fmt: skip
async def test_a_deadline_of_any_text_is_taken_for_what_it_says(
    answering: Answering, told: str, code: int
) -> None:
    async with answering(brief) as (_, asker):
        answer = await asker.ask("brief.a", header=deadline(told))
        assert (answer.code, answer.not_started) == (code, "expired" if code else "")


async def test_a_handler_that_takes_its_cancellation_back_is_late_all_the_same(answering: Answering) -> None:
    async with answering(stubborn) as (_, asker):
        for _ in range(2):
            answer = await asker.ask("stubborn.a")
            assert (answer.code, answer.body) == (408, b"")
        assert events == ["begins", "cancelled"] * 2
        assert asker.answers.empty()


async def test_a_handler_that_ignores_its_cancellation_is_answered_for_once_and_holds_its_slot(
    answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(deaf) as (_, asker):
        assert (await asker.ask("deaf.a")).code == 408
        stats = await told(asker)
        assert (stats["data"]["held"], stats["num_errors"]) == (1, 1)
        waiting = asker.asked("deaf.b", header=deadline(60_000))
        await asker.flush()
        assert not waiting.done()
        go_on.set()
        assert (await waiting).body == b"very late"
        assert "ignores its timeout" in caplog.text
        assert asker.answers.empty(), "the first was answered once"
        assert (await told(asker))["data"]["held"] == 0


async def test_a_thread_that_is_late_is_answered_for_in_time(answering: Answering) -> None:
    async with answering(thread) as (_, asker):
        answer = await asker.ask("thread.a")
        assert (answer.code, answer.error) == (408, "no result within 0.1 s")
        second = await asker.ask("thread.b", header=deadline(50))
        assert second.not_started == "expired", "no slot is free, and it is told all the same"
        assert (await told(asker))["data"]["held"] == 1
        go_on.set()
        await eventually(lambda: answered(asker, "thread.c", b"late"))  # a thread may begin late, too
        assert asker.answers.empty()


async def answered(asker: Asker, subject: str, body: bytes = b"") -> bool:
    """Whether a request succeeds, with this body if one is given."""
    answer = await asker.ask(subject)
    return answer.code == 0 and answer.body == (body or answer.body)


async def told(asker: Asker) -> Any:
    answer = await asker.ask("$SRV.STATS.test")
    return msgspec.json.decode(answer.body)["endpoints"][0]
