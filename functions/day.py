"""One day of all airports: split by airport, counted in parallel, joined into one report."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct

from functions._flight import Flight
from functions.alert import LATE
from runner import consume, gather

FLIGHTS = Path(__file__).parent / "_data" / "flights.jsonl"


class Departures(Struct):
    """What left one airport on one day."""

    airport: str
    flights: tuple[Flight, ...]


class Count(Struct):
    """The figures of one airport."""

    airport: str
    departures: int
    late: int
    worst: int
    """The longest delay, in minutes."""


class Report(Struct):
    """The figures of a day, the airport with the most departures first."""

    date: str
    departures: int
    late: int
    airports: tuple[Count, ...]


@consume("days.{date}", output="departures.{date}")
async def split_day(date: str) -> AsyncIterator[Departures]:
    """Yield what left each airport on that day (`2001-01-01`); nothing for a day without a departure."""
    by_airport: dict[str, list[Flight]] = {}
    for line in FLIGHTS.read_text().splitlines():
        flight = json.loads(line)
        if flight["date"].startswith(date.replace("-", "/")):
            by_airport.setdefault(flight["origin"], []).append(Flight(**flight))
    for airport, flights in sorted(by_airport.items()):
        yield Departures(airport, tuple(flights))


@consume("departures.{date}", output="counts.{date}", executor="process")
def count(departures: Departures) -> Count:
    """Count one airport's flights, in a process of its own."""
    delays = [flight.delay for flight in departures.flights]
    late = sum(delay >= LATE for delay in delays)
    return Count(departures.airport, len(delays), late, max(delays))


@gather("counts.{date}", output="reports.{date}", expires=600)
async def report(counts: list[Count], date: str) -> Report:
    """Join the airports' figures once all of them are there."""
    return Report(
        date,
        sum(each.departures for each in counts),
        sum(each.late for each in counts),
        tuple(sorted(counts, key=lambda each: (-each.departures, each.airport))),
    )
