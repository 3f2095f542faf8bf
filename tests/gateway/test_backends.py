"""Requests that are passed on: to functions over NATS, and into streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from msgspec import structs

from runner import Context, Reject, Retry, reply
from runner.core.http.backend import Publish, RequestBackend
from runner.core.http.cors import Cors
from runner.core.http.filters import Headers
from runner.core.http.route import Options, Pattern, Route, Weighted
from runner.core.subject import Template
from tests.gateway.conftest import Serving
from tests.support.rawhttp import connected

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def to(
    kind: type[RequestBackend | Publish], path: str, subject: str, method: str = "POST", **options: Any
) -> Route:
    return Route(
        name=f"route {method} {path}",
        path=Pattern(path),
        methods=(method,),
        backends=(Weighted(kind(Template.parse(subject))),),
        options=Options(**options),
    )


@reply("quotes.{item}")
async def quote(item: str, ctx: Context, body: Any = None) -> Any:
    match item:
        case "reject":
            raise Reject("no such item")
        case "retry":
            raise Retry("closed")
        case "boom":
            raise RuntimeError("a secret of the inside")
        case "late":
            await asyncio.sleep(30)
        case "none":
            return None
        case "bytes":
            return b"\xff\x00"
        case "text":
            return "plain, é"
    return {"item": item, "body": body, "headers": dict(ctx.headers), "message_id": ctx.message_id}


QUOTES = (
    to(RequestBackend, "/quotes/{item}", "quotes.{item}", "GET"),
    to(RequestBackend, "/quotes/{item}", "quotes.{item}", "POST"),
    to(RequestBackend, "/quick/{item}", "quotes.{item}", "GET", timeout=0.3),
    to(RequestBackend, "/nobody", "nobody.here", "GET"),
)
EVENTS = (
    to(Publish, "/events/{kind}", "events.{kind}"),
    to(Publish, "/keyed/{kind}", "events.{kind}", idempotency="required"),
    to(Publish, "/limited/{kind}", "events.{kind}", body_limit=10),
    to(Publish, "/nowhere", "nowhere.at.all"),
)
STREAMS: Mapping[str, Any] = {"EVENTS": {"subjects": ["events.*"]}}


async def test_a_function_answers_wherever_it_runs(serving: Serving) -> None:
    async with serving(quote, routes=QUOTES) as (_, client):
        answer = await client.post("/quotes/a?x=1&y=%20", json={"n": 1}, headers={"X-Tenant": "t"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        told = answer.json()
        assert (told["item"], told["body"], told["headers"]["x-tenant"]) == ("a", {"n": 1}, "t")
        own = {name: value for name, value in told["headers"].items() if name.startswith("Jetrunner-Http")}
        assert own == {
            "Jetrunner-Http-Method": "POST",
            "Jetrunner-Http-Path": "/quotes/a",
            "Jetrunner-Http-Query": "x=1&y=%20",
            "Jetrunner-Http-Host": client.base_url.netloc.decode(),
        }
        assert (await client.get("/quotes/none")).status_code == 204
        text, raw = await client.get("/quotes/text"), await client.get("/quotes/bytes")
        assert (text.text, text.headers["content-type"]) == ("plain, é", "text/plain; charset=utf-8")
        assert (raw.content, raw.headers["content-type"]) == (b"\xff\x00", "application/octet-stream")


@pytest.mark.parametrize(
    ("path", "status", "detail", "after"),
    [
        ("/quotes/reject", 422, "no such item", None),
        ("/quotes/retry", 503, "not there now", "1"),
        ("/quotes/boom", 500, "the function failed", None),
        ("/quick/late", 504, "", None),
        ("/nobody", 503, "nobody answers", "1"),
        ("/quotes/a%20b", 400, "token", None),
        ("/quotes/a.b", 400, "token", None),
        ("/quotes/*", 400, "token", None),
        ("/quotes/%3E", 400, "token", None),
    ],
)
async def test_errors_have_their_status(
    serving: Serving, path: str, status: int, detail: str, after: str | None
) -> None:
    async with serving(quote, routes=QUOTES) as (_, client):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert detail in answer.json()["detail"]
        assert "secret" not in answer.text
        assert answer.headers.get("retry-after") == after


async def test_no_client_writes_a_header_of_ours_or_of_the_servers(serving: Serving) -> None:
    async with serving(quote, routes=QUOTES) as (_, client):
        forged = {
            "Nats-Msg-Id": "x", "NATS-Rollup": "all", "Jetrunner-Http-Method": "DELETE", "jetrunner-deadline": "1",
            "JETRUNNER-HTTP-CALLER": "root", "Jetrunner-Origin-Stream": "S", "Connection": "close, X-Hop", "X-Hop": "1",
            "Keep-Alive": "1", "Proxy-Authorization": "x", "TE": "trailers", "X-Kept": "yes",
        }  # fmt: skip
        answer = await client.get("/quotes/a", headers=forged)
        told = {name.lower(): value for name, value in answer.json()["headers"].items()}
        assert told["jetrunner-http-method"] == "GET"
        assert int(told["jetrunner-deadline"]) > 1_000
        assert told["x-kept"] == "yes"
        assert not {"nats-msg-id", "nats-rollup", "jetrunner-http-caller", "jetrunner-origin-stream"} & {
            *told
        }
        assert not {"connection", "x-hop", "keep-alive", "proxy-authorization", "te", "host"} & {*told}
        assert answer.json()["message_id"] == ""


async def test_a_message_is_stored_before_the_answer_and_once_a_key(serving: Serving) -> None:
    async with serving(quote, routes=EVENTS, streams=STREAMS) as (app, client):
        first = await client.post(
            "/events/a", content=b"{}", headers={"Idempotency-Key": "k", "X-Tenant": "t"}
        )
        assert first.status_code == 202
        assert first.json() == {"stream": "EVENTS", "sequence": 1, "message_id": "EVENTS:1"}
        again = await client.post("/events/a", content=b"{}", headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["duplicate"], again.json()["sequence"]) == (202, True, 1)
        other = await client.post("/events/b", content=b"{}", headers={"Idempotency-Key": "k"})
        assert other.json() == {"stream": "EVENTS", "sequence": 2, "message_id": "EVENTS:2"}
        assert (await client.post("/keyed/b", content=b"{}")).status_code == 400
        assert (
            await client.post("/events/b", content=b"{}", headers={"Idempotency-Key": "a b"})
        ).status_code == 400
        stored = await app.outputs("events.*")
        assert [each.subject for each in stored] == ["events.a", "events.b"]
        assert (stored[0].headers["x-tenant"], stored[0].headers["Jetrunner-Http-Method"]) == ("t", "POST")
        assert (await client.post("/limited/a", content=b"x" * 11)).status_code == 413
        assert (await client.post("/nowhere", content=b"")).status_code == 503


async def test_a_stream_that_is_full_is_told(serving: Serving) -> None:
    full: Mapping[str, Any] = {"EVENTS": {"subjects": ["events.*"], "max_msgs": 1, "discard": "new"}}
    async with serving(quote, routes=EVENTS, streams=full) as (_, client):
        assert (await client.post("/events/a", content=b"1")).status_code == 202
        answer = await client.post("/events/a", content=b"2")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_pages_of_other_origins_are_told_what_they_may(serving: Serving) -> None:
    shared = Cors(origins=("https://app.example.com",), headers=("x-tenant",))
    routes = (to(RequestBackend, "/quotes/{item}", "quotes.{item}", "GET", cors=shared),)
    async with serving(quote, routes=routes) as (_, client):
        origin = {"Origin": "https://app.example.com"}
        preflight = await client.options(
            "/quotes/a", headers={**origin, "Access-Control-Request-Method": "GET"}
        )
        assert (preflight.status_code, preflight.headers["access-control-allow-methods"]) == (204, "GET")
        answer = await client.get("/quotes/a", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "origin" in answer.headers["vary"]
        other = await client.get("/quotes/a", headers={"Origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in other.headers


async def test_a_filter_sets_the_content_type_in_the_place_of_the_functions(serving: Serving) -> None:
    kind = Headers(of="response", set=(("content-type", "text/x-quote"), ("x-request-id", "of-the-route")))
    routes = [structs.replace(QUOTES[0], backends=(structs.replace(QUOTES[0].backends[0], filters=(kind,)),))]
    async with serving(quote, routes=routes) as (_, client):
        answer = await client.get("/quotes/a")
        assert answer.headers.get_list("content-type") == ["text/x-quote"]
        assert answer.headers.get_list("x-request-id") == ["of-the-route"]


async def test_what_would_break_a_header_never_reaches_nats(serving: Serving) -> None:
    async with serving(quote, routes=QUOTES) as (_, client):
        port = client.base_url.port
        assert port is not None
        for line in (
            b"X: a\r\n\tNats-Msg-Id: 1",
            b"X: a\nNats-Msg-Id: 1",
            b"X: a\rNats-Msg-Id: 1",
            b"X\x0b: 1",
        ):
            async with connected(port) as raw:
                await raw.say(b"GET /quotes/a HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
                assert (await raw.answer()).status == 400
        async with connected(port) as raw:
            await raw.say(
                b"GET /quotes/a?x=1%0d%0aNats-Msg-Id:%201 HTTP/1.1\r\nHost: a\r\nX-Odd: \xff\x80\r\n\r\n"
            )
            answer = await raw.answer()
            assert answer.status == 200
            told = httpx.Response(200, content=answer.body).json()["headers"]
            assert "Nats-Msg-Id" not in told
            assert told["x-odd"] == "\xff\x80", "Latin-1, where it is no UTF-8"
            assert told["Jetrunner-Http-Query"] == "x=1%0d%0aNats-Msg-Id:%201"


async def test_requests_count_from_before_their_bodies_are_read(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.gateway.app.MOST_IN_FLIGHT", 1)
    async with serving(quote, routes=QUOTES) as (_, client), asyncio.timeout(60):
        port = client.base_url.port
        assert port is not None
        async with connected(port) as raw:
            await raw.say(
                b"POST /quotes/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await raw.answer()).status == 100, "its body is being read"
            other = await client.post("/quotes/b", json={})
            assert (other.status_code, other.headers["retry-after"]) == (429, "1")
            await raw.say(b"{}")
            assert (await raw.answer()).status == 200


async def test_all_bodies_together_have_a_limit(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.gateway.app.MOST_BODY_BYTES", 1_000)
    async with serving(quote, routes=QUOTES) as (_, client):
        for size, status in ((900, 200), (900, 200), (1_100, 429), (900, 200)):
            answer = await client.post("/quotes/a", json="x" * size)
            assert answer.status_code == status, "what is answered is not held any more"
