"""What a handler publishes while it answers: stored before the answer, and not at all where it fails."""

from __future__ import annotations

import asyncio

import pytest

from runner import Context, reply
from tests.services.conftest import Answering
from tests.support.asker import deadline
from tests.support.jetstream import RawJetStream

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@reply("book.{name}")
async def book(body: int, name: str, ctx: Context) -> str:
    await ctx.publish(f"booked.{name}", body)
    await ctx.publish(f"booked.{name}", body + 1, headers={"Tag": "second"})
    if name == "wrong":
        raise ValueError("no")
    if name == "slow":
        await asyncio.sleep(60)
    return "booked"


@reply("nowhere.{name}")
def nowhere(name: str, ctx: Context) -> str:
    ctx.publish(f"unknown.{name}", name)
    return "never told"


@reply("ask.{name}")
async def ask(name: str, ctx: Context) -> str:
    return str(await ctx.request(f"book.{name}", 7, returns=str))


STREAMS = {"BOOKED": {"subjects": ["booked.*"], "allow_atomic": True}}


async def test_it_is_stored_before_the_answer_leaves(answering: Answering) -> None:
    async with answering(book, streams=STREAMS) as (app, asker):
        for _ in range(2):
            assert (await asker.ask("book.ada", b"7")).body == b"booked"
        stored = await app.outputs("booked.>")
        assert [each.body for each in stored] == [b"7", b"8"] * 2, (
            "a run that is asked for twice publishes twice"
        )
        ids = [each.headers["Nats-Msg-Id"] for each in stored]
        assert len({*ids}) == 4
        assert [each.headers.get("Tag") for each in stored] == [None, "second"] * 2


async def test_nothing_is_stored_of_a_request_that_fails(answering: Answering) -> None:
    async with answering(book, streams=STREAMS) as (app, asker):
        assert (await asker.ask("book.wrong", b"7")).code == 500
        assert (await asker.ask("book.slow", b"7", deadline(100))).code == 408
        assert await app.outputs("booked.>") == []


async def test_what_cannot_be_stored_is_an_error(answering: Answering) -> None:
    async with answering(nowhere) as (_, asker):
        answer = await asker.ask("nowhere.ada")
        assert (answer.code, answer.body) == (500, b"")
        assert "unknown.ada" in answer.error


async def test_a_stream_that_takes_nothing_is_waited_for_no_longer_than_the_asker(
    answering: Answering,
) -> None:
    full = {"BOOKED": {"subjects": ["booked.*"], "allow_atomic": True, "max_msgs": 1, "discard": "new"}}
    async with answering(book, streams=full) as (app, asker):
        async with RawJetStream.connect(app.url) as js:
            await js.publish("booked.first", b"0")
        answer = await asker.ask("book.ada", b"7", deadline(400))
        assert answer.code in {408, 500}
        assert [each.body for each in await app.outputs("booked.>")] == [b"0"]


async def test_a_function_that_answers_may_ask_another(answering: Answering) -> None:
    async with answering(book, ask, streams=STREAMS) as (app, asker):
        assert (await asker.ask("ask.ada")).body == b"booked"
        assert len(await app.outputs("booked.>")) == 2


@reply("odd.{name}")
async def odd(name: str, ctx: Context) -> object:
    await ctx.publish(f"booked.{name}", name)
    return object() if name == "value" else "x" * 2_000_000 if name == "long" else "fine"


@pytest.mark.parametrize("name", ["value", "long"])
async def test_nothing_is_stored_where_the_answer_cannot_be_sent(answering: Answering, name: str) -> None:
    async with answering(odd, streams=STREAMS) as (app, asker):
        assert (await asker.ask(f"odd.{name}")).code == 500
        assert (await asker.ask("odd.fine")).body == b"fine"
        assert [each.subject for each in await app.outputs("booked.>")] == ["booked.fine"]
