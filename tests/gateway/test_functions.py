"""What functions with `@route` answer, on a real server."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Struct

from runner import Context, Reject, Response, Retry, around, lifespan, reply, route
from tests.gateway.conftest import Serving
from tests.support.eventually import eventually
from tests.support.rawhttp import Answer, connected

pytestmark = [pytest.mark.server, pytest.mark.anyio]


class Order(Struct):
    id: str
    cents: int = 0


@route("GET", "/orders/{number}")
async def find(number: int, ctx: Context, *, limit: int = 10) -> Any:
    return {
        "number": number, "limit": limit, "subject": ctx.subject, "params": ctx.params, "tag": ctx.headers.get("x-tag"),
        "path": ctx.headers["Jetrunner-Http-Path"], "attempt": ctx.attempt, "left": 0 < ctx.deadline <= 30,
        "message_id": ctx.message_id,
    }  # fmt: skip


@route("POST", "/orders")
async def make(order: Order) -> Order:
    return Order(order.id, order.cents + 1)


@route("POST", "/raw")
async def raw(body: bytes) -> bytes:
    return body[::-1]


@route("POST", "/text")
def text(body: str) -> str:
    return f"{body} in a thread: {threading.current_thread() is not threading.main_thread()}"


@route("PUT", "/orders/{order_id}", output="orders.{order_id}.changed")
async def change(order: Order, order_id: str, ctx: Context) -> Order | None:
    await ctx.publish("audit.orders", {"id": order_id})
    if order.cents < 0:
        raise Reject("less than nothing")
    return order if order.cents else None


@route("POST", "/fail/{how}")
async def fail(how: str) -> Any:
    match how:
        case "reject":
            raise Reject("no such order")
        case "retry":
            raise Retry("the bank is closed", after=7)
        case "boom":
            raise RuntimeError("a secret of the inside")
        case "created":
            return Response({"id": 1}, status=201, headers={"Location": "/orders/1"})
        case "odd":
            return object()
    return None


@route("POST", "/late/{how}", timeout=0.3, concurrency=1)
async def late(how: str) -> None:
    await asyncio.sleep(30 if how == "late" else 0)


async def test_tokens_query_headers_and_context_are_there(serving: Serving) -> None:
    async with serving(find) as (_, client):
        answer = await client.get(
            "/orders/42?limit=3", headers={"X-Tag": "a", "Idempotency-Key": "k-1", "Nats-Msg-Id": "forged"}
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        assert told.pop("message_id").startswith("http-"), "the same for the same key, path and caller"
        assert told == {
            "number": 42, "limit": 3, "subject": "GET /orders/42", "params": {"number": "42"}, "tag": "a",
            "path": "/orders/42", "attempt": 1, "left": True,
        }  # fmt: skip


async def test_a_body_is_decoded_by_its_content_type(serving: Serving) -> None:
    async with serving(make, raw, text) as (_, client):
        assert (await client.post("/orders", json={"id": "a", "cents": 1})).json() == {"id": "a", "cents": 2}
        packed = await client.post(
            "/orders",
            content=msgspec.msgpack.encode({"id": "a"}),
            headers={"Content-Type": "application/msgpack", "Accept": "application/msgpack"},
        )
        assert packed.headers["content-type"] == "application/msgpack"
        assert msgspec.msgpack.decode(packed.content) == {"id": "a", "cents": 1}
        kind = await client.post("/orders", data={"id": "a"})
        assert (kind.status_code, kind.headers["content-type"]) == (415, "application/problem+json")
        plain = await client.post("/orders", content=b"{}", headers={"Content-Type": "text/plain"})
        assert plain.status_code == 415
        assert (await client.post("/raw", content=b"\x00\x01")).content == b"\x01\x00"
        answer = await client.post("/text", content="é".encode(), headers={"Content-Type": "image/png"})
        assert (answer.text, answer.headers["content-type"]) == (
            "é in a thread: True",
            "text/plain; charset=utf-8",
        )


@pytest.mark.parametrize(
    ("how", "status", "detail", "after"),
    [
        ("reject", 422, "no such order", None),
        ("retry", 503, "the bank is closed", "7"),
        ("boom", 500, "the function failed", None),
        ("odd", 500, "the function failed", None),
    ],
)
async def test_how_a_handler_fails_is_a_problem_without_its_secrets(
    serving: Serving, how: str, status: int, detail: str, after: str | None
) -> None:
    async with serving(fail) as (_, client):
        answer = await client.post(f"/fail/{how}")
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.json()["status"], answer.json()["detail"]) == (status, detail)
        assert "secret" not in answer.text
        assert answer.headers.get("retry-after") == after
        assert (await client.post("/fail/none")).status_code == 204, "the slot lives on"


async def test_a_handler_that_takes_too_long_is_a_problem_too(serving: Serving) -> None:
    async with serving(late) as (_, client):
        answer = await client.post("/late/late")
        assert (answer.status_code, answer.headers["content-type"]) == (504, "application/problem+json")
        assert answer.json()["detail"] == "the function took too long"

        async def is_served() -> bool:  # whoever stands still for a moment is too late once more
            return (await client.post("/late/soon")).status_code == 204

        await eventually(is_served)  # the slot lives on


async def test_a_response_says_status_and_headers(serving: Serving) -> None:
    async with serving(fail) as (_, client):
        answer = await client.post("/fail/created")
        assert (answer.status_code, answer.headers["location"], answer.json()) == (
            201,
            "/orders/1",
            {"id": 1},
        )


async def test_what_is_wrong_in_a_request_is_told(serving: Serving) -> None:
    async with serving(find, make) as (_, client):
        for answer, status, word in (
            (await client.get("/orders/x"), 422, "number"),
            (await client.get("/orders/1?limit=x"), 422, "limit"),
            (
                await client.post("/orders", content=b"{", headers={"Content-Type": "application/json"}),
                400,
                "",
            ),
            (await client.get("/nowhere"), 404, ""),
            (await client.delete("/orders/1"), 405, ""),
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (
                status,
                "application/problem+json",
            )
            assert word in answer.json()["detail"]
        assert "GET" in (await client.delete("/orders/1")).headers["allow"]
        options = await client.options("/orders/1")
        assert (options.status_code, "GET" in options.headers["allow"]) == (204, True)
        head = await client.head("/orders/1")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 2


async def test_an_output_is_stored_before_the_answer_and_once_a_key(serving: Serving) -> None:
    streams = {"TEST": ["orders.*.changed", "audit.orders"]}
    async with serving(change, streams=streams) as (app, client):
        first = await client.put("/orders/a", json={"id": "a", "cents": 1}, headers={"Idempotency-Key": "1"})
        assert first.status_code == 202
        told = first.json()
        assert (told["stream"], told["message_id"]) == ("TEST", f"TEST:{told['sequence']}")
        [stored] = await app.outputs("orders.*.changed")
        assert (stored.subject, stored.sequence) == ("orders.a.changed", told["sequence"])
        again = await client.put("/orders/a", json={"id": "a", "cents": 1}, headers={"Idempotency-Key": "1"})
        assert (again.status_code, again.json()["duplicate"]) == (202, True)
        other = await client.put("/orders/b", json={"id": "b", "cents": 1}, headers={"Idempotency-Key": "1"})
        assert "duplicate" not in other.json(), "a key is of one target"
        assert len(await app.outputs("orders.*.changed")) == 2
        assert (await client.put("/orders/c", json={"id": "c", "cents": 0})).status_code == 204
        before = len(await app.outputs("audit.orders"))
        assert (await client.put("/orders/c", json={"id": "c", "cents": -1})).status_code == 422
        assert len(await app.outputs("audit.orders")) == before, "a failed handler has published nothing"


@route("GET", "/ticks/{number}")
async def ticks(number: int) -> AsyncIterator[Any]:
    for at in range(number):
        yield {"n": at}
        await asyncio.sleep(0.01)
    if number == 3:
        raise RuntimeError("a secret")


@route("GET", "/threads")
def threads() -> Iterator[str]:
    yield "one"
    yield "two"


async def test_a_generator_sends_each_item_as_it_is_made(serving: Serving) -> None:
    async with serving(ticks, threads) as (_, client):
        async with client.stream("GET", "/ticks/2") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            lines = [line async for line in answer.aiter_lines() if line]
        assert lines == ['data: {"n":0}', 'data: {"n":1}']
        assert (await client.get("/threads")).text == "data: one\n\ndata: two\n\n"
        failed = (await client.get("/ticks/3")).text
        assert failed.count("data: {") == 4
        assert "event: error" in failed
        assert "secret" not in failed
        assert (await client.get("/ticks/0")).text == ""


async def test_a_client_that_goes_ends_the_generator(serving: Serving) -> None:
    ended, begun = asyncio.Event(), asyncio.Event()

    @route("GET", "/endless")
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                begun.set()
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with serving(endless) as (_, client):
        async with client.stream("GET", "/endless") as answer:
            await anext(answer.aiter_lines())
        async with asyncio.timeout(60):
            await ended.wait()


async def test_hooks_lifespan_and_requests_work_as_elsewhere(serving: Serving) -> None:
    seen: list[str] = []

    @lifespan
    async def shop() -> AsyncIterator[dict[str, int]]:
        yield {"fee": 7}

    @around
    async def timed(ctx: Context, call: Any) -> Any:
        seen.append(ctx.subject)
        return await call()

    @reply("prices.{item}")
    async def price(item: str) -> int:
        return len(item)

    @route("GET", "/prices/{item}")
    async def total(item: str, ctx: Context) -> int:
        found: int = await ctx.request(f"prices.{item}", None, returns=int)
        return found + int(ctx.state["fee"])

    async with serving(shop, timed, price, total) as (_, client):
        assert (await client.get("/prices/abc")).json() == 10
    assert seen == ["GET /prices/abc", "prices.abc"]


async def test_large_json_is_compressed_for_who_takes_it(serving: Serving) -> None:
    @route("GET", "/large")
    async def large() -> list[str]:
        return ["abc"] * 1_000

    async with serving(large) as (app, _), httpx.AsyncClient(base_url=app.http, timeout=60) as client:
        answer = await client.get("/large", headers={"Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < 200
        assert answer.json() == ["abc"] * 1_000
        plain = await client.get("/large", headers={"Accept-Encoding": "identity"})
        assert ("content-encoding" in plain.headers, plain.headers["vary"]) == (False, "accept-encoding")
        assert gzip.compress(plain.content)


async def test_what_finds_no_slot_waits_and_too_much_is_refused(serving: Serving) -> None:
    free = asyncio.Event()

    @route("GET", "/slow", concurrency=1)
    async def slow() -> int:
        await free.wait()
        return 1

    async def asking(port: int) -> Answer:
        async with connected(port) as client:  # httpx takes a minute of CPU for so many connections
            await client.say(b"GET /slow HTTP/1.1\r\nHost: edge\r\n\r\n")
            return await client.answer()

    async with serving(slow) as (app, _):
        port = int(app.http.rpartition(":")[2])
        asked = [asyncio.create_task(asking(port)) for _ in range(1_100)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        free.set()
        statuses = [(await each).status for each in asked]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 1_024


async def test_a_thread_that_yields_ends_with_its_client_too(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()

    @route("GET", "/threaded")
    def threaded() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    async with serving(threaded) as (_, client):
        async with client.stream("GET", "/threaded") as answer:
            await anext(answer.aiter_lines())
        assert await asyncio.to_thread(ended.wait, 60)
    assert "ignores its timeout" not in caplog.text


@route("GET", "/labelled")
async def labelled(ctx: Context) -> Response:
    own = {"X-Request-Id": "mine-12345", "Access-Control-Allow-Origin": "*", "Vary": "accept"}
    return Response({"id": ctx.headers["x-request-id"]}, headers=own)


async def test_no_header_of_an_answer_stands_twice(serving: Serving) -> None:
    async with serving(labelled) as (_, client):
        for given in ({}, {"X-Request-Id": "of-the-client"}):
            answer = await client.get("/labelled", headers=given)
            assert answer.headers.get_list("x-request-id") == [answer.json()["id"]]
            assert len(answer.json()["id"]) >= 13
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
