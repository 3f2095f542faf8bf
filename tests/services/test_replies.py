"""What a function with `@reply` answers, byte for byte."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import msgspec
import nats
import pytest
from msgspec import Struct

from runner import Context, Reject, Retry, lifespan, reply
from runner.core import raised
from tests.services.conftest import Answering

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PACKED = b"NATS/1.0\r\nContent-Type: application/msgpack\r\n\r\n"


class Cart(Struct):
    cents: int
    kind: str = ""


class Unsayable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise OSError("not even this")


@reply("quotes.{customer}")
async def quote(cart: Cart, customer: str) -> Cart:
    match cart.kind:
        case "reject":
            raise Reject("no such\r\nNats-Msg-Id: 7\r\n\r\ncart")
        case "retry":
            raise Retry("the bank is closed", after=5)
        case "group":
            raise ExceptionGroup("one", [Reject("in a group")])
        case "boom":
            raise KeyError("x")
        case "exit":
            raise SystemExit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "mute":
            raise Unsayable
        case "long":
            raise ValueError("é" * 10_000)
    return Cart(cart.cents + 1, customer)


@reply("kinds.{what}")
async def kinds(what: str) -> Any:
    match what:
        case "none":
            return None
        case "bytes":
            return b"\x00\x01"
        case "str":
            return "plain text"
        case "awaitable":
            return asyncio.sleep(0, {"a": 1})
        case "odd":
            return object()
        case "large":
            return b"x" * (1 << 20)
        case _:
            return {"what": what}


@reply("threads.{number}")
def thread(number: int, body: int | None = None, *, ctx: Context) -> dict[str, Any]:
    if number == 13:
        raise SystemExit("no luck")
    return {
        "twice": number * 2,
        "body": body,
        "thread": threading.current_thread() is not threading.main_thread(),
    }


@reply("facts.{what}.of", name="facts")
async def tell_facts(ctx: Context, what: str) -> dict[str, Any]:
    return {
        "subject": ctx.subject, "params": ctx.params, "attempt": [ctx.attempt, ctx.attempts], "stream": ctx.stream,
        "sequence": ctx.sequence, "message_id": ctx.message_id, "tag": ctx.headers.get("Tag"), "left": ctx.deadline,
        "function": ctx.function, "year": ctx.timestamp.year > 2020, "key": ctx.key, "shard": ctx.shard,
    }  # fmt: skip


bound: ContextVar[str] = ContextVar("bound", default="nothing")


@lifespan
async def shop() -> AsyncIterator[dict[str, int]]:
    bound.set("by the lifespan")
    yield {"fee": 7}


@reply("state.{who}", concurrency=1)
async def state(who: str, ctx: Context) -> dict[str, Any]:
    found = bound.get()
    bound.set(who)
    return {"fee": ctx.state["fee"], "bound": found}


def error(code: int, text: str) -> bytes:
    return f"NATS/1.0\r\nNats-Service-Error: {text}\r\nNats-Service-Error-Code: {code}\r\n\r\n".encode()


async def test_a_result_comes_back_without_headers(answering: Answering) -> None:
    async with answering(quote, kinds) as (_, asker):
        answer = await asker.ask("quotes.ada", b'{"cents": 1}')
        assert (answer.header, answer.body) == (b"", b'{"cents":2,"kind":"ada"}')
        for what, body in (
            ("none", b""),
            ("bytes", b"\x00\x01"),
            ("str", b"plain text"),
            ("awaitable", b'{"a":1}'),
        ):
            answer = await asker.ask(f"kinds.{what}")
            assert (answer.header, answer.body) == (b"", body)


async def test_a_request_in_messagepack_is_answered_in_messagepack(answering: Answering) -> None:
    async with answering(quote, kinds) as (_, asker):
        answer = await asker.ask("quotes.ada", msgspec.msgpack.encode({"cents": 1}), PACKED)
        assert answer.header == PACKED
        assert msgspec.msgpack.decode(answer.body) == {"cents": 2, "kind": "ada"}
        raw = await asker.ask("kinds.str", b"", PACKED)
        assert (raw.header, raw.body) == (b"", b"plain text"), "a text is no MessagePack"


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("reject", 422, "no such Nats-Msg-Id: 7 cart"),
        ("group", 422, "in a group"),
        ("retry", 503, "the bank is closed"),
        ("boom", 500, "KeyError: 'x'"),
        ("exit", 500, "SystemExit: 3"),
        ("cancel", 500, "CancelledError"),
        ("mute", 500, f"Unsayable: {raised.MUTE}"),
    ],
)
async def test_an_error_is_told_in_two_headers(answering: Answering, kind: str, code: int, text: str) -> None:
    async with answering(quote) as (_, asker):
        answer = await asker.ask("quotes.ada", msgspec.json.encode(Cart(1, kind)))
        assert (answer.header, answer.body) == (error(code, text), b"")
        assert (await asker.ask("quotes.ada", b'{"cents": 1}')).code == 0, "the slot lives on"


async def test_the_words_of_an_error_have_an_end(answering: Answering) -> None:
    async with answering(quote) as (_, asker):
        answer = await asker.ask("quotes.ada", msgspec.json.encode(Cart(1, "long")))
        assert answer.code == 500
        assert len(answer.error.encode()) <= 1024
        assert answer.error.startswith("ValueError: éé")


async def test_what_cannot_be_decoded_or_sent_is_told(answering: Answering) -> None:
    async with answering(quote, kinds, thread) as (_, asker):
        for body in (b"no json", b"", b'{"cents": "one"}', b"\xff\xfe"):
            answer = await asker.ask("quotes.ada", body)
            assert answer.code == 400
            assert answer.error
        assert (await asker.ask("threads.three")).code == 400, "a token that is not a number"
        odd, large = await asker.ask("kinds.odd"), await asker.ask("kinds.large")
        assert (odd.code, large.code) == (500, 500)
        assert "cannot be encoded" in odd.error
        assert "1,048,576 bytes" in large.error


async def test_a_def_handler_answers_from_a_thread(answering: Answering) -> None:
    async with answering(thread) as (_, asker):
        answer = await asker.ask("threads.4")
        assert msgspec.json.decode(answer.body) == {"twice": 8, "body": None, "thread": True}
        assert (await asker.ask("threads.13")).header == error(500, "SystemExit: no luck")
        assert b'"body":5' in (await asker.ask("threads.1", b"5")).body


async def test_the_context_tells_of_a_request(answering: Answering) -> None:
    block = b"NATS/1.0\r\nTag: a\r\nnats-msg-id: r-7\r\nJetrunner-Deadline: 15000\r\n\r\n"
    async with answering(tell_facts) as (_, asker):
        told = msgspec.json.decode((await asker.ask("facts.x.of", b"", block)).body)
        left = told.pop("left")
        assert 1.0 < left <= 15.0
        assert told == {
            "subject": "facts.x.of", "params": {"what": "x"}, "attempt": [1, 1], "stream": "", "sequence": 0,
            "message_id": "r-7", "tag": "a", "function": "facts", "year": True, "key": None, "shard": None,
        }  # fmt: skip
        told = msgspec.json.decode((await asker.ask("facts.x.of")).body)
        assert (told["message_id"], told["left"] > 15) == ("", True)


async def test_handlers_share_what_the_lifespan_made_and_nothing_else(answering: Answering) -> None:
    async with answering(state, shop) as (_, asker):
        for who in ("ada", "ben", "cyd"):
            told = msgspec.json.decode((await asker.ask(f"state.{who}")).body)
            assert told == {"fee": 7, "bound": "by the lifespan"}, "what one request binds, no other sees"


async def test_any_client_of_nats_can_ask(answering: Answering) -> None:
    async with answering(quote) as (app, _):
        client = await nats.connect(app.url)
        try:
            fine = await client.request("quotes.ada", b'{"cents": 1}', timeout=60)
            assert (fine.data, fine.headers) == (b'{"cents":2,"kind":"ada"}', None)
            wrong = await client.request("quotes.ada", b'{"cents": 1, "kind": "reject"}', timeout=60)
            assert (wrong.headers or {})["Nats-Service-Error-Code"] == "422"
        finally:
            await client.close()
        assert await app.request("quotes.ada", Cart(4), returns=Cart) == Cart(5, "ada")
        await app.settled()


async def test_a_thousand_at_once_are_each_answered_once(answering: Answering) -> None:
    async with answering(quote) as (app, asker):
        asked = [asker.asked("quotes.c", b'{"cents": %d}' % number) for number in range(1_000)]
        answers = await asyncio.gather(*asked)
        assert [msgspec.json.decode(each.body)["cents"] for each in answers] == list(range(1, 1_001))
        await app.settled()
        assert asker.answers.empty(), "nothing is answered twice"
