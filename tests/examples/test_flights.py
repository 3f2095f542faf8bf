"""The functions of the example project, called as any function is: no server, no runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions._airports import airports
from functions._flight import Alert, Flight
from functions.alert import alert
from functions.audit import audit
from functions.forward import forward
from functions.state import State
from functions.track import track
from runner import Reject, Retry, testing

DATA = Path(__file__).parents[2] / "functions" / "_data"
LATE = Alert("HNL", "SFO", "2001/01/01 01:10", 95)


def records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def endpoint(status: int, posted: list[httpx.Request] | None = None) -> State:
    """What handlers share, with an HTTP endpoint that gives one answer to everything, and 0 for none."""

    def answer(request: httpx.Request) -> httpx.Response:
        if posted is not None:
            posted.append(request)
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, json={"key": request.headers["Idempotency-Key"]})

    return State(httpx.AsyncClient(transport=httpx.MockTransport(answer)), "http://alerts.test/", airports())


async def test_a_flight_an_hour_late_is_an_alert() -> None:
    assert await alert(Flight("2001/01/01 01:10", 95, 2399, "HNL", "SFO")) == LATE


async def test_a_punctual_flight_is_none() -> None:
    assert await alert(Flight("2001/01/01 06:55", -19, 1797, "LAX", "BNA")) is None


async def test_departures_are_counted_by_airport() -> None:
    state = endpoint(200)
    for _ in range(2):
        await track(Flight("2001/01/01 01:10", 95, 2399, "HNL", "SFO"), "HNL", testing.context(state=state))
    assert state.departures == {"HNL": 2}


async def test_an_alert_is_posted_under_its_messages_id() -> None:
    posted: list[httpx.Request] = []
    ctx = testing.context(state=endpoint(200, posted))
    await forward(LATE, ctx)
    assert [each.headers["Idempotency-Key"] for each in posted] == [ctx.message_id]
    assert json.loads(posted[0].content)["delay"] == 95


@pytest.mark.parametrize("status", [500, 503, 0])
async def test_an_endpoint_that_is_not_well_is_asked_again(status: int) -> None:
    with pytest.raises(Retry):
        await forward(LATE, testing.context(state=endpoint(status)))


async def test_an_alert_that_the_endpoint_refuses_is_given_up() -> None:
    with pytest.raises(Reject, match="422"):
        await forward(LATE, testing.context(state=endpoint(422)))


def test_every_real_flight_passes_the_audit() -> None:
    ctx = testing.context(state=endpoint(200))
    flights = records("flights.jsonl")
    assert len(flights) == 5000
    for flight in flights:
        audit(Flight(**flight), ctx)


def test_every_made_up_record_is_refused() -> None:
    ctx = testing.context(state=endpoint(200))
    readable = [
        one for one in records("broken.jsonl") if isinstance(one["delay"], int) and "destination" in one
    ]
    assert len(readable) == 5
    for flight in readable:
        with pytest.raises(Reject):
            audit(Flight(**flight), ctx)
