"""What is done at the same time while a process stops."""

from __future__ import annotations

import asyncio
import logging

import pytest

from runner.errors import JetrunnerError
from runner.runtime.stop import together

pytestmark = pytest.mark.anyio


async def test_one_step_that_fails_ends_no_other_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    failed = asyncio.Event()

    async def fails() -> None:
        failed.set()
        raise JetrunnerError("the server does not answer")

    async def waits() -> None:
        await failed.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done.append("given back")

    async def fails_otherwise() -> None:
        raise RuntimeError("a mistake")

    with caplog.at_level(logging.ERROR, "jetrunner"):
        await together([fails, waits, fails_otherwise])
    assert done == ["given back"]
    assert "the server does not answer" in caplog.text
    assert "a mistake" in caplog.text


async def test_what_is_cancelled_ends_all_of_it() -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def stands() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    task = asyncio.create_task(together([stands]))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]
