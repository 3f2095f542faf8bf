"""Count departures by airport."""

from __future__ import annotations

from functions._flight import Flight
from runner import Context, consume


@consume("flights.{origin}")
async def track(flight: Flight, origin: str, ctx: Context) -> None:
    """Count in this process alone, and a message that runs twice counts twice: a hint of the traffic, no ledger."""
    departures = ctx.state.departures
    departures[origin] += 1
    if departures[origin] % 100 == 0:
        ctx.log.info("%s: %d departures, this one to %s", origin, departures[origin], flight.destination)
