"""Who is known to answer: instances that were missed are found again, and those that are gone are forgotten."""

from __future__ import annotations

import asyncio

import pytest

from runner.client import App
from tests.requests.conftest import Here
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_an_asker_with_few_quick_requests_finds_an_instance_whose_news_were_missed(
    app: App, instance: Here
) -> None:
    await instance("a")
    assert await app.request("quote.1", None) == "a"
    directory = app._requester.directory
    await eventually(lambda: directory._ready)
    await instance("b", tell=False)
    directory.ask_soon()
    assert await app.request("quote.1", None) in {"a", "b"}
    await eventually(lambda: ("shop", "b") in directory.peers)


async def test_an_asker_that_begins_without_a_connection_asks_who_is_there_on_the_next_one(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    one = await instance("a", tell=False)
    nats_server.stop()
    await eventually(lambda: not app._requester._connection.is_connected)
    asking = asyncio.create_task(app.request("quote.1", None, timeout=30.0))
    await eventually(lambda: app._requester.directory._ready)
    nats_server.start()
    assert await asking == "a"
    await eventually(lambda: one.client.is_connected, within=20)
    async with asyncio.timeout(10):
        while ("shop", "a") not in app._requester.directory.peers:
            assert await app.request("quote.1", None) == "a"
