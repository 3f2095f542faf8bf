"""Whatever is sent to a function that answers, the next request is answered as ever."""

from __future__ import annotations

import random

import pytest

from runner import Context, reply
from tests.services.conftest import Answering

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@reply("echo.{who}")
async def echo(body: bytes, who: str, ctx: Context) -> bytes:
    return f"{who} {sorted(ctx.headers)} {ctx.message_id}".encode("utf-8", "replace") + body


BLOCKS = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0\r\nJetrunner-Deadline\r\n\r\n",
    b"NATS/1.0\r\nJetrunner-Deadline:\r\n\r\n",
    b"NATS/1.0\r\nJetrunner-Deadline: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nJetrunner-Deadline: 5000",
    b"NATS/1.0\r\nJetrunner-Deadline: 5000\r\nJetrunner-Deadline: 0\r\n\r\n",
    b"NATS/1.0\r\nContent-Type: application/msgpack\r\nContent-Type: \x00\r\n\r\n",
    b"NATS/1.0\r\nContent-Type: msgpack\xff\r\n\r\n",
    b"NATS/1.0\r\ntraceparent: 00-" + b"g" * 32 + b"-" + b"1" * 16 + b"-01\r\n\r\n",
    b"NATS/1.0\r\ntraceparent: \xff\r\ntracestate: \xff=\xfe\r\nbaggage: \xff\r\n\r\n",
    b"NATS/1.0\r\nNats-Msg-Id: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\n" + b"".join(b"H%d: %d\r\n" % (n, n) for n in range(2_000)) + b"\r\n",
    b"\xff\xfe\x00",
    b"x",
    b"\r\n" * 50,
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
async def test_headers_of_any_bytes_are_answered(answering: Answering, block: bytes) -> None:
    async with answering(echo) as (_, asker):
        answer = await asker.ask("echo.a", b"!", block)
        assert not answer.header.startswith(b"NATS/1.0 503"), "somebody answers"
        assert answer.code in {0, 408}
        assert (await asker.ask("echo.b", b"?")).body.startswith(b"b ")


@pytest.mark.parametrize("token", ["ä", "\u2028", "{who}", "%s", "\\r\\n", "a" * 2_900, "$JS", "_INBOX"])
async def test_subjects_of_any_characters_are_answered(answering: Answering, token: str) -> None:
    async with answering(echo) as (_, asker):
        answer = await asker.ask(f"echo.{token}", b"!")
        assert answer.body.startswith(token.encode())


async def test_a_subject_of_bytes_that_are_no_text_is_answered(answering: Answering) -> None:
    async with answering(echo) as (_, asker):
        asker.send("echo.a", reply="_INBOX.asker.x")
        asker._writer.write(b"PUB echo.\xff\xfe _INBOX.asker.odd 1\r\n!\r\n")
        found = [await asker.answers.get() for _ in range(2)]
        assert {each.subject for each in found} == {"_INBOX.asker.x", "_INBOX.asker.odd"}


async def test_noise_is_answered_and_ends_nothing(answering: Answering) -> None:
    luck = random.Random(7)
    async with answering(echo) as (_, asker):
        for _ in range(300):
            block = luck.randbytes(luck.randrange(1, 200)) if luck.random() < 0.5 else luck.choice(BLOCKS)
            answer = await asker.ask("echo.a", luck.randbytes(luck.randrange(300)), block)
            assert answer.code in {0, 400, 408}, "400: no body"
        assert (await asker.ask("echo.b", b"?")).code == 0
