"""Responses that cannot be sent: the client is told, the process and its messages stand as they were."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from runner import Context, Response, route
from tests.gateway.conftest import Serving

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ODD: dict[str, Any] = {
    "number": {"X-Total-Count": 5},
    "bytes": {"X-Total": b"5"},
    "nothing": {"X-Total": None},
    "name": {5: "five"},
    "kind": {"Content-Type": 5},
    "none": None,
    "list": [("X-Total", "5")],
}


@route("GET", "/odd/{how}")
async def odd(how: str) -> Any:
    return Response({"is": how}, headers=ODD[how]) if how in ODD else Response({"is": how})


@pytest.mark.parametrize("how", ODD)
async def test_a_header_that_is_no_text_is_a_problem_and_ends_nothing(
    serving: Serving, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(odd) as (_, client):
        answer = await client.get(f"/odd/{how}")
        assert (answer.status_code, answer.json()["detail"]) == (500, "the function failed")
        told = [each.getMessage() for each in caplog.records if "header" in each.getMessage()]
        assert len(told) == 1
        assert "test_responses.py:" in told[0], "it says which function returned that"
        assert (await client.get("/odd/not")).json() == {"is": "not"}, "the slot lives on"


@route("POST", "/told/{how}")
async def told(how: str, ctx: Context) -> Any:
    await ctx.publish(f"told.{how}", how)
    match how:
        case "status":
            return Response({}, status=700)
        case "value":
            return object()
        case "header":
            return Response({}, headers=ODD["number"])
    return Response({"how": how}, status=201)


@pytest.mark.parametrize("how", ["status", "value", "header"])
async def test_nothing_is_stored_where_the_response_cannot_be_sent(serving: Serving, how: str) -> None:
    async with serving(told, streams={"TOLD": ["told.*"]}) as (app, client):
        assert (await client.post(f"/told/{how}")).status_code == 500
        fine = await client.post("/told/fine")
        assert (fine.status_code, fine.json()) == (201, {"how": "fine"})
        assert [each.subject for each in await app.outputs("told.*")] == ["told.fine"]


@pytest.mark.parametrize("token", ["a.b", "a%20b", "*", "%3E"])
async def test_a_token_that_its_output_cannot_hold_is_refused_before_the_handler_runs(
    serving: Serving, token: str
) -> None:
    called: list[str] = []

    @route("PUT", "/o/{customer}", output="orders.{customer}.created")
    async def order(customer: str) -> dict[str, str]:
        called.append(customer)
        return {"of": customer}

    async with serving(order, streams={"ORDERS": ["orders.>"]}) as (_, client):
        answer = await client.put(f"/o/{token}")
        assert (answer.status_code, called) == (400, [])
        assert "customer" in answer.json()["detail"]
        assert "orders." not in answer.text, "subjects are of the inside"
        assert (await client.put("/o/ada")).status_code == 202


@route("PUT", "/full/{customer}", output="full.{customer}", timeout=0.5)
async def full(customer: str) -> dict[str, str]:
    return {"of": customer}


@route("PUT", "/first/{customer}", output="full.{customer}")
async def first(customer: str) -> dict[str, str]:
    return {"of": customer}


async def test_a_stream_that_does_not_answer_in_time_may_have_the_message_and_that_is_told(
    serving: Serving,
) -> None:
    stream = {"subjects": ["full.*"], "max_msgs": 1, "discard": "new"}
    async with serving(full, first, streams={"FULL": stream}) as (_, client):
        assert (await client.put("/first/a")).status_code == 202
        answer = await client.put("/full/b")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "it may have the message" in answer.json()["detail"]
        assert "same Idempotency-Key" in answer.json()["detail"]
