"""What a gateway does that has been told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.project import Project
from tests.support.rawhttp import connected
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TICKS = """
    import asyncio
    from collections.abc import AsyncIterator
    from runner import route

    @route("GET", "/plain")
    async def plain() -> str:
        return "plain"

    @route("GET", "/ticks", timeout=10.0)
    async def ticks() -> AsyncIterator[int]:
        for number in range(1_000_000):
            yield number
            await asyncio.sleep(0.05)
"""


PATIENT = "from runner.gateway import listener\n\nlistener.QUIET_SECONDS = 30.0\n"
"""A connection that is idle at the end is kept until the test has said what it has to say."""


async def refuses(port: int) -> None:
    """Wait until no connection is taken any more."""
    while True:
        try:
            async with connected(port):
                await asyncio.sleep(0.02)
        except ConnectionRefusedError:
            return


async def test_events_that_are_asked_for_at_the_end_are_refused(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"ticks": TICKS, "patient": PATIENT}, nats=nats_server.url)
    edge = project.start("gateway", "--listen", "127.0.0.1:0")
    line = await edge.seen(r"HTTP at http://\S+:\d+")
    port = int(line.partition("HTTP at ")[2].split(": ")[0].rpartition(":")[2])
    async with asyncio.timeout(60), connected(port) as raw:
        await raw.say(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await raw.answer()).body == b"plain"
        edge.terminate()
        await refuses(port)
        await raw.say(b"GET /ticks HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await raw.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert await raw.closed()
