"""The example over HTTP: figures of an airport, its delays as events, and departures that are reported."""

from __future__ import annotations

import httpx
import pytest

from functions._flight import Flight
from functions.figures import delays, figures
from functions.state import state
from functions.web import airport, airports, depart, departed
from runner import Reject, testing
from runner.testing.plugin import Jetrunner
from tests.examples.test_flights import endpoint

pytestmark = pytest.mark.anyio

LATE = {"date": "2001/01/01 01:10", "delay": 95, "distance": 2399, "origin": "HNL", "destination": "SFO"}


async def test_an_ingress_asks_for_the_airport_at_the_end_of_the_path() -> None:
    ctx = testing.context(
        state=endpoint(200), headers={"Jetrunner-Http-Path": "/figures/nowhere"}, replies=lambda *_: None
    )
    with pytest.raises(Reject, match="no such airport"):
        await airports(ctx)


@pytest.mark.server
async def test_it_answers_over_http(jetrunner: Jetrunner) -> None:
    async with (
        jetrunner(state, figures, airport, airports, departed, depart) as app,
        httpx.AsyncClient(base_url=app.http, timeout=60) as client,
    ):
        usual, unknown = await client.get("/airports/HNL"), await client.get("/airports/XXX")
        assert (usual.status_code, usual.json()["departures"]) == (200, len(delays()["HNL"]))
        assert (unknown.status_code, unknown.json()["detail"]) == (422, "there is no such airport")
        events = await client.get("/airports/HNL/delays", params={"most": 2, "least": 60})
        late = [delay for delay in delays()["HNL"] if delay >= 60][:2]
        assert events.text == "".join(f"data: {delay}\n\n" for delay in late)
        reported = await client.post("/flights/HNL", json=LATE)
        assert (reported.status_code, reported.json()["stream"]) == (202, "FLIGHTS")
        assert (await client.post("/flights/SFO", json=LATE)).status_code == 422
        (stored,) = await app.outputs("flights.HNL")
        assert stored.decode(Flight).delay == 95
