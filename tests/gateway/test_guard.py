"""What the guard lets through: each row of the table is a client that means harm, is broken, or is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec import structs

from runner.gateway import sockets
from runner.gateway.limits import Limits
from runner.gateway.listener import Listener
from tests.support.hostile import REFUSED, SLOW
from tests.support.rawhttp import connected

pytestmark = pytest.mark.anyio

LIMITS = Limits(
    head_bytes=4_096, headers=20, head_seconds=60, body_bytes=10_000, body_seconds=60, body_rate=1_000_000,
    idle_seconds=60, requests=5, pipelined=4, linger_seconds=60,
)  # fmt: skip
HURRIED = structs.replace(LIMITS, head_seconds=0.4, body_seconds=0.4, linger_seconds=0.5)


class Echo:
    """Answers with what it has read, and remembers each request."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.refused: list[tuple[int, str, str, str]] = []
        """Statuses of what the guard refuses, with method, host and path as far as they are known."""
        self.more = b""
        """What follows in each answer."""
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.headers = list(scope["headers"])
        await self.go.wait()
        text = f"{scope['path']}:".encode() + body + self.more
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def listening(limits: Limits = LIMITS) -> AsyncIterator[tuple[int, Echo, Listener]]:
    echo = Echo()
    listener = Listener(echo, limits, lambda guard, why: echo.refused.append((why.status, *guard.asked)))
    socket = sockets.bound("127.0.0.1:0")
    port = socket.getsockname()[1]
    await listener.open(socket)
    try:
        yield port, echo, listener
    finally:
        echo.go.set()
        await listener.leave()
        await listener.close()


GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSALS = {client: row for rows in REFUSED.values() for client, row in rows.items()}


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.replace(" ", "-"))
async def test_it_is_refused_once_and_the_connection_closed(row: str) -> None:
    status, data = REFUSALS[row]
    async with listening() as (port, echo, _), connected(port) as raw, asyncio.timeout(60):
        await raw.say(data)
        await raw.say(GOOD)
        answer = await raw.answer()
        if b"/first" in data:
            assert answer.status == 200
            answer = await raw.answer()
        assert answer.status == status
        assert (answer.headers["connection"], answer.headers["content-type"]) == (
            "close",
            "application/problem+json",
        )
        assert await raw.closed()
        assert "GET /good" not in echo.asked, "nothing behind it is taken for a request"


async def test_what_is_known_of_a_refusal_is_told() -> None:
    async with listening() as (port, echo, _), asyncio.timeout(60):
        for data in (
            b"GET /a?secret=1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 10001\r\n\r\n",
            b"\x16\x03\x01",
        ):
            async with connected(port) as raw:
                await raw.say(data)
                await raw.answer()
        assert echo.refused == [(400, "GET", "a", "/a"), (413, "POST", "a", "/long"), (400, "", "", "")]
    async with listening(HURRIED) as (port, echo, _), asyncio.timeout(60), connected(port) as raw:
        await raw.say(b"DELETE /half HTTP/1.1\r\nHost: a\r\nX")
        await raw.answer()
        assert echo.refused == [(408, "DELETE", "a", "/half")]


SERVED = {
    "plain": b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n",
    "a port": b"GET /good HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "an address of IPv6": b"GET /good HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "a target with its host": b"GET http://a/good HTTP/1.1\r\nHost: a\r\n\r\n",
    "the same host in capitals": b"GET http://A/good HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0 without a Host": b"GET /good HTTP/1.0\r\n\r\n",
    "a body in chunks": b"POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "chunks in capitals": b"POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "a query": b"GET /good?a=1&b=%20 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upgrade that is not taken": b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.replace(" ", "-"))
async def test_it_is_served(row: str) -> None:
    async with listening() as (port, _, __), connected(port) as raw, asyncio.timeout(60):
        await raw.say(SERVED[row])
        assert (await raw.answer()).status == 200


async def test_trailers_are_no_headers() -> None:
    async with listening() as (port, echo, _), connected(port) as raw, asyncio.timeout(60):
        await raw.say(b"POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await raw.say(b"0\r\nHost: internal.example.com\r\nX-Api-Key: k\r\n\r\n")
        assert (await raw.answer()).body == b"/good:a"
        assert echo.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
        await raw.say(GOOD)
        assert (await raw.answer()).status == 200


async def test_a_byte_at_a_time_is_the_same_request() -> None:
    async with listening(Limits()) as (port, _, __), connected(port) as raw, asyncio.timeout(60):
        for byte in b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab":
            await raw.say(bytes([byte]))
            await asyncio.sleep(0)
        assert (await raw.answer()).body == b"/good:ab"


@pytest.mark.parametrize("client", SLOW, ids=lambda each: each.replace(" ", "-"))
async def test_who_is_too_slow_is_told_or_cut_off(client: str) -> None:
    slow = SLOW[client]
    async with listening(HURRIED) as (port, echo, _), connected(port) as raw, asyncio.timeout(60):

        async def drip() -> None:
            while slow.drips:
                await asyncio.sleep(0.05)
                await raw.say(slow.drips)

        await raw.say(slow.says)
        dripping = asyncio.create_task(drip())
        try:
            for _ in range(slow.first):
                assert (await raw.answer()).status == 200
            if slow.gets:
                assert (await raw.answer()).status == slow.gets
            assert await raw.closed()
        finally:
            dripping.cancel()
            await asyncio.wait({dripping})
    assert [each for each in echo.asked if each != "POST /"] == ["GET /good"] * slow.first


async def test_a_body_at_the_rate_takes_its_time() -> None:
    limits = Limits(body_seconds=0.3, body_rate=1)
    async with listening(limits) as (port, _, __), connected(port) as raw, asyncio.timeout(60):
        head = b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n"
        for at in range(4):
            await raw.say((b"" if at else head) + b"x" * 10)
            await asyncio.sleep(0.3)
        assert (await raw.answer()).status == 200


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with listening() as (port, echo, _), connected(port) as raw, asyncio.timeout(60):
        echo.go.clear()
        await raw.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % at for at in range(4)))
        echo.go.set()
        assert [(await raw.answer()).body for _ in range(4)] == [b"/%d:" % at for at in range(4)]


async def test_a_refusal_waits_for_the_answers_before_it() -> None:
    async with listening() as (port, echo, _), connected(port) as raw, asyncio.timeout(60):
        echo.go.clear()
        await raw.say(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.1)
        echo.go.set()
        first = await raw.answer()
        assert (first.status, first.body) == (200, b"/first:")
        assert (await raw.answer()).status == 400
        assert await raw.closed()


async def test_what_is_pipelined_without_an_end_is_refused_after_those_that_were_taken() -> None:
    limits = Limits(pipelined=4, requests=100)
    async with listening(limits) as (port, echo, _), connected(port) as raw, asyncio.timeout(60):
        echo.go.clear()
        await raw.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % at for at in range(20)))
        await asyncio.sleep(0.1)
        echo.go.set()
        statuses = []
        while (status := (await raw.answer()).status) == 200:
            statuses.append(status)
        assert status == 429
        assert len(statuses) == 5
        assert await raw.closed()


async def test_who_expects_is_told_to_continue_when_the_body_is_read() -> None:
    async with listening() as (port, _, __), connected(port) as raw, asyncio.timeout(60):
        await raw.say(b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await raw.answer()).status == 100
        await raw.say(b"ab")
        assert (await raw.answer()).body == b"/good:ab"


async def test_a_client_that_sends_on_sees_why_its_body_was_refused() -> None:
    async with listening() as (port, _, __), connected(port) as raw, asyncio.timeout(60):
        await raw.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
        for _ in range(100):
            await raw.say(b"x" * 10_000)
        assert (await raw.answer()).status == 413


async def test_a_connection_has_so_many_requests() -> None:
    async with listening() as (port, _, __), connected(port) as raw, asyncio.timeout(60):
        for at in range(5):
            await raw.say(GOOD)
            answer = await raw.answer()
            assert answer.headers.get("connection") == ("close" if at == 4 else None)
        assert await raw.closed()


async def test_too_many_connections_are_refused() -> None:
    limits = Limits(connections=2)
    async with (
        listening(limits) as (port, _, __),
        asyncio.timeout(60),
        connected(port) as one,
        connected(port) as two,
    ):
        for raw in (one, two):
            await raw.say(GOOD)
            assert (await raw.answer()).status == 200
        async with connected(port) as three:
            assert (await three.answer()).status == 503


async def test_the_end_answers_what_came_and_closes_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "runner.gateway.listener.QUIET_SECONDS", 30.0
    )  # until the idle one has asked once more
    async with (
        listening(Limits()) as (port, echo, listener),
        asyncio.timeout(60),
        connected(port) as idle,
        connected(port) as busy,
    ):
        await idle.say(GOOD)
        assert "connection" not in (await idle.answer()).headers
        echo.go.clear()
        await busy.say(b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
        while "GET /busy" not in echo.asked:
            await asyncio.sleep(0.01)
        leaving = asyncio.create_task(listener.leave())
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            async with connected(port):
                pass
        echo.go.set()
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"/busy:", "close")
        await idle.say(GOOD)  # a request that was on its way
        assert (await idle.answer()).headers["connection"] == "close"
        assert await idle.closed()
        await leaving


MUCH = bytes(32 * 1024 * 1024)
"""More than the buffers of the kernel hold."""


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with listening(Limits(unread_seconds=1)) as (port, echo, listener), asyncio.timeout(60):
        echo.more = MUCH
        async with connected(port) as raw:
            await raw.say(GOOD)
            while not listener.connections or echo.asked == []:
                await asyncio.sleep(0.01)
            while listener.connections:
                await asyncio.sleep(0.05)


async def read_slowly(port: int) -> int:
    """Over three seconds, as long as there is something to read: how many bytes there were."""
    size = 0
    async with connected(port) as raw:
        await raw.say(b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await raw.answer(bodiless=True)).status == 200
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            for _ in range(16):
                size += len(await raw.reader.readexactly(2 * 1024 * 1024))
                await asyncio.sleep(0.2)
            size += len(await raw.reader.read())
    return size


async def test_a_client_that_reads_slowly_gets_all() -> None:
    async with listening(Limits(unread_seconds=1.5)) as (port, echo, _), asyncio.timeout(60):
        echo.more = MUCH
        for _ in range(3):  # whoever stands still for a moment is cut off once, and not three times
            if (size := await read_slowly(port)) == len(MUCH) + len(b"/good:"):
                break
        assert size == len(MUCH) + len(b"/good:")


async def test_the_end_does_not_wait_for_a_client_that_does_not_read() -> None:
    limits = Limits(unread_leaving_seconds=0.5)
    async with listening(limits) as (port, echo, listener), asyncio.timeout(60):
        echo.more = MUCH
        async with connected(port) as raw:
            await raw.say(GOOD)
            while echo.asked == []:
                await asyncio.sleep(0.01)
            await listener.leave()
            assert listener.connections == []
