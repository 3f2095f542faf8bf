"""Who is known to answer: instances that were missed are found again, and those that are gone are forgotten."""

from __future__ import annotations

import asyncio

import pytest

from runner.client import App
from runner.requests.directory import ASK_SECONDS, clock
from tests.requests.conftest import Here, known
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.usefixtures("patient")]


async def test_an_asker_with_few_quick_requests_finds_an_instance_whose_news_were_missed(
    app: App, instance: Here
) -> None:
    await instance("a")
    assert await app.request("quote.1", None) == "a"
    directory = app._requester.directory
    await eventually(lambda: directory.ready)
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
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: app._requester.directory.ready)
    nats_server.start()
    assert await asking == "a"
    await eventually(lambda: one.client.is_connected)
    async with asyncio.timeout(60):
        while ("shop", "a") not in app._requester.directory.peers:
            assert await app.request("quote.1", None) == "a"


async def test_an_instance_that_said_goodbye_is_not_learned_again_by_what_it_answers_later(
    app: App, instance: Here
) -> None:
    one = await instance("a")
    await instance("b")
    directory = app._requester.directory
    await known(app, "a", "b")
    await one.tell(gone=True)
    await eventually(lambda: ("shop", "a") not in directory.peers)
    await eventually(lambda: directory.ready)
    told = len(one.told)
    directory.ask_soon()
    assert await app.request("quote.1", None) == "b"
    await eventually(lambda: len(one.told) > told)
    assert await app.request("quote.1", None) == "b"  # what it has told is here before this answer
    assert list(directory.peers) == [("shop", "b")]


async def test_an_instance_that_does_not_tell_of_itself_twice_is_forgotten(app: App, instance: Here) -> None:
    one = await instance("a")
    await instance("b")
    directory = app._requester.directory
    await known(app, "a", "b")
    await eventually(lambda: directory.ready)
    await one.close()
    peer = directory.peers["shop", "a"]
    later = clock()
    for _ in range(2):
        later += ASK_SECONDS + 1
        directory.ask(later)
        assert directory.peers["shop", "a"] is peer
        await eventually(lambda: directory.peers["shop", "b"].told_in == directory.round)
    directory.ask(later + ASK_SECONDS + 1)
    assert list(directory.peers) == [("shop", "b")]
    assert [[*each.peers] for each in directory.callees.values()] == [["b"]]
    assert await app.request("quote.1", None) == "b"


async def test_who_answers_again_after_it_was_forgotten_is_learned_again(app: App, instance: Here) -> None:
    one = await instance("a")
    directory = app._requester.directory
    await known(app, "a")
    directory.forget(directory.peers["shop", "a"])
    assert not directory.peers
    await one.tell()
    await known(app, "a")
    assert await app.request("quote.1", None) == "a"


async def test_no_more_subjects_are_learned_than_there_is_room_for(
    app: App, instance: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.requests.directory.MOST_CALLEES", 3)
    one = await instance("a", subjects={f"quote{number}.*": True for number in range(5)})
    directory = app._requester.directory
    await known(app, "a")
    assert len(directory.callees) == 3
    assert await app.request("quote4.1", None) == "a"  # as any client would ask
    assert one.asked[-1].subject == "quote4.1"
    await one.tell(gone=True)
    await eventually(lambda: not directory.callees)
