"""Functions with `executor="process"` in tests: in processes of their own, so that a crash and a hang can be tried."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from runner import Context, RetryPolicy, around, consume, lifespan
from runner.errors import UsageError
from runner.testing.plugin import Jetrunner

pytestmark = pytest.mark.anyio

HERE = int(os.environ.setdefault("TEST_PROCESS", str(os.getpid())))
"""The process that runs the tests: a child has the variable from it."""


@lifespan
async def place() -> AsyncGenerator[int, None]:
    yield os.getpid()


@around
async def hook(ctx: Context, call: Any) -> Any:
    return [await call(), os.getpid()]


@consume("jobs.{kind}", output="done.{kind}", executor="process")
def work(job: int, kind: str, ctx: Context[int]) -> list[int]:
    if kind == "crash":
        assert os.getpid() != HERE, "that would end the tests"
        os.kill(os.getpid(), signal.SIGKILL)
    return [job * 2, os.getpid(), ctx.state]


@lifespan
async def with_a_thread() -> AsyncGenerator[tuple[int, int], None]:
    """Gives the priority while it begins, and a thread that has begun with it."""
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()
    assert thread.native_id is not None
    yield os.nice(0), thread.native_id
    ends.set()
    thread.join()


@consume("nice.{kind}", output="done.{kind}", executor="process")
def niceness(job: int, ctx: Context[tuple[int, int]]) -> list[int]:
    before, thread = ctx.state
    return [before, os.nice(0), os.getpriority(os.PRIO_PROCESS, thread)]


@lifespan
async def works_here_alone() -> AsyncGenerator[int, None]:
    if os.getpid() != HERE:
        raise OSError("no database for children")
    yield 1


@consume("slow.{kind}", output="done.{kind}", executor="process", timeout=0.5, retry=RetryPolicy(attempts=2))
def hang(job: int) -> None:
    while True:
        time.sleep(0.01)


async def test_it_runs_in_a_process_of_its_own_with_its_own_lifespan_and_hooks(jetrunner: Jetrunner) -> None:
    async with jetrunner(work, place, around=[hook]) as app:
        await app.publish("jobs.sum", 21)
        await app.settled()
        ((doubled, child, state), hooked) = (await app.outputs("done.sum"))[0].decode()
    assert (doubled, state, hooked) == (42, child, child)
    assert child != os.getpid()


async def test_a_crash_ends_no_test_and_its_message_is_a_dead_letter(jetrunner: Jetrunner) -> None:
    async with jetrunner(work) as app:
        await app.publish("jobs.crash", 1)
        await app.publish("jobs.sum", 2)
        await app.settled(within=60)
        (letter,) = await app.dead_letters("work")
        assert (letter.reason, letter.subject) == ("crashed", "jobs.crash")
        assert [each.decode()[0] for each in await app.outputs("done.*")] == [4]


async def test_a_hang_ends_with_its_timeout(jetrunner: Jetrunner) -> None:
    async with jetrunner(hang) as app:
        await app.publish("slow.sum", 1)
        await app.settled(within=60)
        (letter,) = await app.dead_letters("hang")
        assert (letter.reason, letter.attempts) == ("timeout", 2)


async def test_where_a_test_wants_it_they_run_in_its_own_process(jetrunner: Jetrunner) -> None:
    async with jetrunner(work, place, processes=False) as app:
        await app.publish("jobs.sum", 21)
        await app.settled()
        assert (await app.outputs("done.sum"))[0].decode() == [42, os.getpid(), os.getpid()]


async def test_one_that_no_other_process_can_import_runs_here_and_that_is_told(
    jetrunner: Jetrunner, caplog: pytest.LogCaptureFixture
) -> None:
    @consume("jobs.{kind}", output="done.{kind}", executor="process")
    def local(job: int) -> int:
        return os.getpid()

    async with jetrunner(local) as app:
        await app.publish("jobs.sum", 21)
        await app.settled()
        assert (await app.outputs("done.sum"))[0].decode() == os.getpid()
    assert "local is written inside another function" in caplog.text


async def test_it_has_a_lower_priority_than_the_loop_of_its_functions(jetrunner: Jetrunner) -> None:
    """Once it has begun, and so have the threads that began with it."""
    usual = os.nice(0)
    async with jetrunner(niceness, with_a_thread) as app:
        await app.publish("nice.a", 1)
        await app.settled()
        lower = min(19, usual + 10)
        assert (await app.outputs("done.a"))[0].decode() == [usual, lower, lower]


async def test_a_process_that_cannot_begin_is_told_before_a_message_waits_for_it(
    jetrunner: Jetrunner,
) -> None:
    with pytest.raises(UsageError, match="no process .* can begin: .*no database for children"):
        async with jetrunner(work, works_here_alone):
            raise AssertionError
