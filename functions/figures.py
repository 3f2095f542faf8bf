"""Figures of an airport for whoever asks, and a function that asks for them."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from functions._flight import Flight
from functions.alert import LATE
from runner import Context, Reject, consume, reply
from runner.errors import ServiceError

REJECTED = 422  # of a request: asking again would change nothing
FLIGHTS = Path(__file__).parent / "_data" / "flights.jsonl"


class Figures(Struct):
    """What is usual at one airport."""

    airport: str
    departures: int
    late: float
    """The share of its departures that leave an hour late, or more."""
    delay: float
    """Their mean delay, in minutes."""


class Comparison(Struct):
    """A flight beside what is usual where it left."""

    origin: str
    destination: str
    delay: int
    more: float
    """Minutes later than the mean of its origin."""
    busier: str
    """Which of its two airports has more departures."""


@cache
def delays() -> dict[str, list[int]]:
    """The delays of each airport's departures, read once a process."""
    found: dict[str, list[int]] = {}
    for line in FLIGHTS.read_text().splitlines():
        flight = json.loads(line)
        found.setdefault(flight["origin"], []).append(flight["delay"])
    return found


@reply("figures.{airport}", idempotent=True)
async def figures(airport: str, ctx: Context) -> Figures:
    """To ask twice changes nothing, so an instance that is killed costs its askers some milliseconds, and no answer."""
    if airport not in ctx.state.airports:
        raise Reject(f"unknown airport {airport}")
    known = delays().get(airport, [])
    late = sum(delay >= LATE for delay in known)
    return Figures(airport, len(known), late / max(len(known), 1), fmean(known) if known else 0.0)


@consume("comparisons.{origin}", output="compared.{origin}")
async def compare(flight: Flight, ctx: Context) -> Comparison:
    """Ask for both airports at once; each request goes to the instance that is likely to answer soonest."""
    try:
        origin, destination = await asyncio.gather(
            ctx.request(f"figures.{flight.origin}", None, returns=Figures),
            ctx.request(f"figures.{flight.destination}", None, returns=Figures),
        )
    except ServiceError as error:
        if error.code == REJECTED:
            raise Reject(str(error)) from None
        raise
    busier = max(origin, destination, key=lambda each: each.departures).airport
    return Comparison(
        flight.origin, flight.destination, flight.delay, round(flight.delay - origin.delay, 1), busier
    )
