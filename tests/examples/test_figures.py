"""The example's request and reply: figures of an airport, and a function that asks for them."""

from __future__ import annotations

import json

import pytest

from functions._flight import Flight
from functions.figures import FLIGHTS, Comparison, Figures, compare, delays, figures
from functions.state import state
from runner import Reject, testing
from runner.errors import ServiceError
from runner.testing.plugin import Jetrunner
from tests.examples.test_flights import endpoint

pytestmark = pytest.mark.anyio

LATE = Flight("2001/01/01 01:10", 95, 2399, "HNL", "SFO")


async def test_the_figures_of_an_airport_are_those_of_its_flights() -> None:
    flights = [json.loads(line) for line in FLIGHTS.read_text().splitlines()]
    of_it = [each["delay"] for each in flights if each["origin"] == "ORD"]
    found = await figures("ORD", testing.context(state=endpoint(200)))
    assert (found.airport, found.departures) == ("ORD", len(of_it))
    assert found.delay == pytest.approx(sum(of_it) / len(of_it))
    assert 0 < found.late < 1


async def test_an_airport_where_nothing_leaves_has_no_delay_and_an_unknown_one_no_figures() -> None:
    ctx = testing.context(state=endpoint(200))
    (quiet, *_) = [each for each in ctx.state.airports if each not in delays()]
    assert await figures(quiet, ctx) == Figures(quiet, 0, 0.0, 0.0)
    with pytest.raises(Reject, match="unknown airport XXX"):
        await figures("XXX", ctx)


async def test_a_flight_is_compared_with_what_is_usual_at_its_airport() -> None:
    replies = {"figures.HNL": Figures("HNL", 10, 0.1, 20.0), "figures.SFO": Figures("SFO", 30, 0.1, 5.0)}
    assert await compare(LATE, testing.context(replies=replies)) == Comparison("HNL", "SFO", 95, 75.0, "SFO")


async def test_a_flight_from_an_unknown_airport_is_given_up_and_one_without_an_answer_is_not() -> None:
    refused = ServiceError("unknown airport HNL", code=422)
    with pytest.raises(Reject, match="unknown airport HNL"):
        await compare(LATE, testing.context(replies=lambda *_: refused))
    with pytest.raises(ServiceError):
        await compare(LATE, testing.context(replies=lambda *_: ServiceError("too many wait", code=429)))


@pytest.mark.server
async def test_flights_are_compared_on_a_real_server(jetrunner: Jetrunner) -> None:
    async with jetrunner(state, figures, compare) as app:
        await app.publish("comparisons.HNL", LATE)
        await app.settled()
        (found,) = await app.outputs("compared.HNL")
        usual = await app.request("figures.HNL", None, returns=Figures)
    made = found.decode(Comparison)
    assert (made.origin, made.destination, made.delay) == ("HNL", "SFO", 95)
    assert made.more == round(95 - usual.delay, 1)
