"""A handler that does not end: its test ends all the same, and is told which function it was, and its message."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runner import consume, reply
from runner.testing import Unsettled, ending
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually

pytestmark = pytest.mark.anyio

LONGEST_SECONDS = 40.0
begun = threading.Event()
released = threading.Event()


@pytest.fixture(autouse=True)
def nothing_begun() -> Iterator[None]:
    begun.clear()
    released.clear()
    yield
    released.set()


@consume("jobs.{id}", timeout=600)
async def asleep(body: int) -> None:
    begun.set()
    await asyncio.sleep(600)


@consume("jobs.{id}", timeout=600)
async def stubborn(body: int) -> None:
    begun.set()
    while True:
        try:
            await asyncio.gather(asyncio.sleep(600), asyncio.sleep(600))
        except asyncio.CancelledError:
            continue


@consume("jobs.{id}", timeout=600)
async def tidy(body: int) -> None:
    begun.set()
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(600)


@consume("jobs.{id}", timeout=600)
def threaded(body: int) -> None:
    begun.set()
    released.wait(600)


@consume("jobs.{id}", timeout=600, batch=10, linger=0.0)
async def batched(bodies: list[int]) -> None:
    begun.set()
    await asyncio.sleep(600)


@consume("jobs.{id}", timeout=600, ordered_by="id")
async def ordered(body: int) -> None:
    begun.set()
    await asyncio.sleep(600)


@reply("ask.{id}", timeout=600)
async def answers(body: int) -> int:
    begun.set()
    await asyncio.sleep(600)
    return 1


async def hangs(jetrunner: Jetrunner, function: Any) -> None:
    """The block of a test ends while the function runs."""
    async with jetrunner(function, streams={"JOBS": ["jobs.*"]}) as app:
        await app.publish("jobs.a", 1)
        await eventually(begun.is_set)


async def asks(jetrunner: Jetrunner) -> None:
    async with jetrunner(answers) as app:
        asking = asyncio.create_task(app.request("ask.a", 1, timeout=60))
        asking.add_done_callback(asyncio.Task.exception)
        await eventually(begun.is_set)


async def fails(jetrunner: Jetrunner) -> None:
    async with jetrunner(asleep, streams={"JOBS": ["jobs.*"]}) as app:
        await app.publish("jobs.a", 1)
        await eventually(begun.is_set)
        raise ZeroDivisionError


@pytest.mark.parametrize("function", [asleep, stubborn, tidy, threaded, batched, ordered])
async def test_a_handler_that_hangs_fails_its_test_which_names_function_and_message(
    jetrunner: Jetrunner, function: Any
) -> None:
    began = time.monotonic()
    with pytest.raises(Unsettled) as raised:
        await hangs(jetrunner, function)
    assert time.monotonic() - began < LONGEST_SECONDS
    assert f"{function.__name__}: JOBS:1 (jobs.a), attempt 1" in str(raised.value)
    cancelled = f"{function.__name__}: ignores its cancellation at {__file__}:" in str(raised.value)
    assert cancelled == (function in (stubborn, tidy))


async def test_a_request_that_hangs_is_named_too(jetrunner: Jetrunner) -> None:
    with pytest.raises(Unsettled, match=r"answers: a request on ask\.a"):
        await asks(jetrunner)


async def test_a_test_that_has_failed_by_itself_keeps_its_error_with_a_note_of_what_hangs(
    jetrunner: Jetrunner,
) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        await fails(jetrunner)
    (note,) = raised.value.__notes__
    assert "asleep: JOBS:1 (jobs.a), attempt 1" in note


async def test_a_handler_that_ends_by_itself_soon_fails_nothing(
    jetrunner: Jetrunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "FINISH_SECONDS", 30.0)  # a busy machine may stand still for two
    async with jetrunner(threaded, streams={"JOBS": ["jobs.*"]}) as app:
        await app.publish("jobs.a", 1)
        await eventually(begun.is_set)
        threading.Timer(0.3, released.set).start()
