"""Pick out the flights that left much too late."""

from __future__ import annotations

from functions._flight import Alert, Flight
from runner import consume

LATE = 60  # minutes


@consume("flights.{origin}", output="alerts.{origin}")
async def alert(flight: Flight) -> Alert | None:
    """What is returned is stored in the stream of `alerts.{origin}` before the flight is acknowledged."""
    if flight.delay < LATE:
        return None
    return Alert(flight.origin, flight.destination, flight.date, flight.delay)
