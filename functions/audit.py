"""Refuse records that cannot be true."""

from __future__ import annotations

from datetime import datetime

from functions._flight import Flight
from runner import Context, Reject, consume

TOLERANCE = 0.05  # of the distance, and ten miles: routes are measured between runways


@consume("flights.{origin}")
def audit(flight: Flight, ctx: Context) -> None:
    """A rejected record stands in the dead letters with the reason; trying it again would change nothing."""
    places = ctx.state.airports
    for code in (flight.origin, flight.destination):
        if code not in places:
            raise Reject(f"unknown airport {code}")
    if flight.origin == flight.destination:
        raise Reject(f"from {flight.origin} to itself")
    miles = places[flight.origin].miles_to(places[flight.destination])
    if abs(miles - flight.distance) > TOLERANCE * miles + 10:
        raise Reject(f"{flight.distance} miles for a way of {miles:.0f}")
    try:
        datetime.strptime(flight.date, "%Y/%m/%d %H:%M")  # noqa: DTZ007 - the data has local times without a zone
    except ValueError:
        raise Reject(f"no such date: {flight.date}") from None
