"""Requests into streams that are slow to answer, or busy: the client is told what is known, and no more."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config import Settings
from runner.errors import Incomplete, NoResponders, NoStream, ServerError, Unconfirmed
from runner.gateway.answer import Answer
from runner.gateway.streams import Streams
from runner.jetstream.connection import connect
from runner.jetstream.publisher import PubAck
from tests.support.cluster import Cluster
from tests.support.jetstream import RawJetStream
from tests.support.server import freeze

pytestmark = [pytest.mark.anyio]

IN_PROCESS = 10158


class Refusing:
    """A publisher that has an error for each try, and then none."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.tries = 0

    async def publish_block(self, subject: str, body: bytes, block: bytes, *, timeout: float) -> PubAck:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return PubAck(stream="EVENTS", seq=1)


async def asked(publisher: Any, timeout: float | None = None) -> Answer:
    """The answer to one request into the stream behind `publisher`."""
    http: Any = SimpleNamespace(key=b"one", lines=lambda: b"")
    return await Streams(publisher).answer(http, "events.a", b"{}", timeout, span=None, traces=b"")


@pytest.mark.server
async def test_a_message_that_is_being_stored_is_not_refused(cluster: Cluster) -> None:
    """The first try has no answer, since its replicas stand still. The second has one at once: the same id is in process."""
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("EVENTS", ["events.>"], num_replicas=3)
        await js.publish("events.first")
        leader = await cluster.leader("EVENTS")
        others = [server for server in cluster.servers if server is not leader]
        async with connect(Settings(nats_url=leader.url), patience=10) as connection:
            codes: list[int] = []

            async def publish(*arguments: Any, **options: Any) -> PubAck:
                try:
                    return await connection.publisher.publish_block(*arguments, **options)
                except ServerError as error:
                    codes.append(error.code)
                    if error.code == IN_PROCESS:
                        for server in others:
                            os.kill(server.pid, signal.SIGCONT)
                    raise

            for server in others:
                freeze(server.pid)
            try:
                answer = await asked(SimpleNamespace(publish_block=publish), timeout=20)
            finally:
                for server in others:
                    os.kill(server.pid, signal.SIGCONT)
            assert (answer.status, IN_PROCESS in codes) == (202, True)
        assert [each.subject for each in await js.messages("EVENTS")] == ["events.first", "events.a"]


@pytest.mark.parametrize("code", [IN_PROCESS, 10167, 10008], ids=["in process", "too many", "no leader"])
async def test_a_busy_stream_is_asked_again_until_it_answers(code: int) -> None:
    publisher = Refusing(*[ServerError("not now", code=code) for _ in range(6)])
    answer = await asked(publisher, timeout=60)
    assert (answer.status, publisher.tries) == (202, 7)


@pytest.mark.parametrize(
    "error",
    [ServerError("in process", code=IN_PROCESS), Unconfirmed("lost"), Incomplete("not led")],
    ids=["busy", "unanswered", "incomplete"],
)
async def test_a_stream_that_stays_busy_may_have_the_message(error: ServerError) -> None:
    """The time counts that has passed, not the number of tries, and there is a pause between two of them."""
    for _ in range(3):  # whoever stands still for all of that time tries less often, once
        publisher = Refusing(*[error] * 1_000)
        async with asyncio.timeout(60):
            answer = await asked(publisher, timeout=0.5)
        assert (answer.status, answer.why) == (503, str(error))
        assert b"it may have the message" in answer.body
        assert publisher.tries <= 11
        if publisher.tries >= 3:
            break
    assert publisher.tries >= 3


async def test_a_stream_without_a_leader_is_asked_again_until_it_has_one() -> None:
    publisher = Refusing(*[NoResponders("nobody answers") for _ in range(3)])
    answer = await asked(publisher, timeout=60)
    assert (answer.status, publisher.tries) == (202, 4)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (NoResponders("nobody"), b"no stream takes this now"),
        (Unconfirmed("lost"), b"it may have the message"),
    ],
    ids=["nobody", "unanswered"],
)
async def test_where_nobody_listens_at_last_the_answer_tells_what_became_of_the_first_try(
    first: ServerError, said: bytes
) -> None:
    publisher = Refusing(first, *[NoResponders("nobody answers")] * 1_000)
    answer = await asked(publisher, timeout=0.2)
    assert (answer.status, said in answer.body) == (503, True)


async def test_where_something_other_than_a_stream_answers_the_stream_may_have_the_message() -> None:
    answer = await asked(Refusing(NoStream("the answer is not a PubAck")))
    assert (answer.status, b"it may have the message" in answer.body) == (503, True)
