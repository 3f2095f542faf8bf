"""What an asker is told: whether its request may have been worked on, or was certainly not."""

from __future__ import annotations

import asyncio

import nats
import pytest
from nats.aio.msg import Msg

from runner.client import App
from runner.core import service
from runner.errors import NoResponders, Unconfirmed
from tests.requests.conftest import Here, known
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.usefixtures("patient")]


async def test_what_could_not_be_sent_in_its_time_was_not_worked_on(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    await instance("a")
    assert await app.request("quote.1", None) == "a"
    nats_server.stop()
    await eventually(lambda: not app._requester._connection.is_connected)
    with pytest.raises(Unconfirmed, match=r"quote\.2 was not sent: there was no connection"):
        await app.request("quote.2", None, timeout=0.2)


async def test_what_nobody_took_after_a_lost_connection_was_not_worked_on(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    one = await instance("a")
    assert await app.request("quote.1", None) == "a"
    await one.client.close()
    nats_server.restart()
    connection = app._requester._connection
    await eventually(lambda: connection.client.stats["reconnects"] == 1 and connection.is_connected)
    with pytest.raises(NoResponders, match=r"nobody answers on quote\.2"):
        await app.request("quote.2", None, timeout=3.0)


async def test_how_often_nobody_was_there_does_not_count_against_one_that_is_overloaded(
    app: App, nats_server: NatsServer
) -> None:
    await app._requester._open()
    nats_server.restart()
    await eventually(lambda: app._requester._connection.client.stats["reconnects"] == 1)
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    requester = app._requester
    await eventually(lambda: bool(requester._postponed))
    (request,) = requester._postponed
    await eventually(lambda: request.tries > 4)
    client = await nats.connect(nats_server.url)
    answers = iter([False, True])

    async def answer(message: Msg) -> None:
        if next(answers, True):
            await message.respond(b'"here"')
        else:
            headers = {service.CODE: "429", service.NOT_STARTED: "overloaded"}
            await client.publish(message.reply, b"", headers=headers)

    await client.subscribe("quote.*", cb=answer)
    assert await asking == "here"
    await client.close()


async def test_what_waits_for_a_connection_goes_to_those_that_are_there_then(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    await instance("a")
    await known(app, "a")
    requester = app._requester
    nats_server.stop()
    await eventually(lambda: not requester._connection.is_connected)
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(requester._postponed))
    (request,) = requester._postponed
    requester.directory.forget(requester.directory.peers["shop", "a"])
    nats_server.start()
    assert await asking == "a"
    assert request.callee is None or request.callee.peers


async def test_what_may_have_run_goes_to_no_release_that_is_not_idempotent_any_more(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    old = await instance("old")
    old.answer = old.silent
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(old.asked))
    await old.client.close()
    requester = app._requester
    nats_server.stop()
    await eventually(lambda: bool(requester._postponed))
    nats_server.start()
    new = await instance("new", subjects={"quote.*": False})
    with pytest.raises(Unconfirmed, match="connection was lost"):
        await asking
    assert not new.asked


async def test_what_was_refused_first_and_then_not_answered_may_have_been_worked_on(
    app: App, instance: Here
) -> None:
    one, other = await instance("a"), await instance("b")
    await known(app, "a", "b")
    one.answer, other.answer = one.error(503, "it ends", "draining"), other.silent
    for _ in range(2):  # one of them begins with the other instance
        with pytest.raises(Unconfirmed, match="may have been worked on"):
            await app.request("quote.1", None, policy="round_robin", timeout=0.3)
    await eventually(lambda: other.asked)


@pytest.mark.usefixtures("hasty")
async def test_what_stands_still_at_one_instance_and_is_refused_by_the_other_may_have_been_worked_on(
    app: App, instance: Here
) -> None:
    one, other = await instance("a"), await instance("b")
    await known(app, "a", "b")
    one.answer, one.answers_pings = one.silent, False
    other.answer = other.error(429, "too many wait", "overloaded")
    for _ in range(2):  # one of them begins with the instance that stands still
        with pytest.raises(Unconfirmed, match="may have been worked on"):
            await app.request("quote.1", None, policy="round_robin", timeout=1.0)
    await eventually(lambda: one.asked and other.asked)
    subjects = {each.subject.rpartition(".quote")[0] for each in (*one.asked, *other.asked)}
    assert subjects == {"jetrunner.shop.at.a", "jetrunner.shop.at.b"}, "none went to whoever NATS picks"
