"""The example's day: split by airport, counted in parallel, joined into one report."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from functions._flight import Flight
from functions.alert import LATE
from functions.day import FLIGHTS, Count, Departures, Report, count, report, split_day
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

DAY = "2001-01-02"
MODULES = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "functions"}


@pytest.fixture(autouse=True)
def _imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have loaded the project anew; types find what their annotations name by their module."""
    for name, module in MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)


def of_day(date: str) -> list[Flight]:
    records = map(json.loads, FLIGHTS.read_text().splitlines())
    return [Flight(**each) for each in records if each["date"].startswith(date.replace("-", "/"))]


def test_an_airport_is_counted() -> None:
    flights = tuple(Flight(f"{DAY} 01:10", delay, 100, "HNL", "SFO") for delay in (95, -3, LATE))
    assert count(Departures("HNL", flights)) == Count("HNL", 3, 2, 95)


@pytest.mark.anyio
@pytest.mark.server
async def test_a_day_is_one_report_and_a_day_without_a_flight_an_empty_one(jetrunner: Jetrunner) -> None:
    flights = of_day(DAY)
    assert len(flights) > 20
    async with jetrunner(split_day, count, report) as app:
        await app.publish(f"days.{DAY}", b"")
        await app.publish("days.1999-12-31", b"")
        await app.settled()
        (found,) = await app.outputs(f"reports.{DAY}")
        (empty,) = await app.outputs("reports.1999-12-31")
    made = found.decode(Report)
    assert (made.departures, made.late) == (len(flights), sum(each.delay >= LATE for each in flights))
    assert {each.airport: each.departures for each in made.airports} == Counter(
        each.origin for each in flights
    )
    assert empty.decode(Report) == Report("1999-12-31", 0, 0, ())


@pytest.mark.anyio
@pytest.mark.server
async def test_the_parts_are_counted_in_a_process_beside_the_runner(
    js: RawJetStream, nats_server: NatsServer, make_project: Callable[..., Project]
) -> None:
    project = make_project(nats=nats_server.url, name="flights")
    for name in ("day", "_flight", "alert", "state", "_airports"):
        project.function(name, (FLIGHTS.parents[1] / f"{name}.py").read_text())
    (project.root / "functions" / "_data").symlink_to(FLIGHTS.parent)
    for name in ("days", "alerts", "flights"):
        project.stream(name, (FLIGHTS.parents[2] / "streams" / f"{name}.toml").read_text())
    await project.applied()
    process = project.start("run", "--only", "split_day", "--only", "count", "--only", "report")
    await process.seen("ready")
    await js.publish(f"days.{DAY}")
    (stored,) = await eventually(lambda: js.messages("DAYS", f"reports.{DAY}"))
    assert stored.json()["departures"] == len(of_day(DAY))
    assert "a process for handlers has started" in process.output
