"""The example over HTTP: figures of an airport for a browser, and departures that are reported from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from functions._flight import Flight
from functions.figures import Figures, delays
from functions.state import State
from runner import Context, Reject, reply, route


@route("GET", "/airports/{airport}")
async def airport(airport: str, ctx: Context[State]) -> Figures:
    """What is usual at an airport, asked of whichever instance answers soonest."""
    if airport not in ctx.state.airports:
        raise Reject("there is no such airport")
    return await ctx.request(f"figures.{airport}", None, returns=Figures)


@route("GET", "/airports/{airport}/delays")
async def departed(airport: str, *, least: int = 0, most: int = 10) -> AsyncIterator[int]:
    """The delays of departures, in minutes: `most` of those of `least` minutes, one event each."""
    for delay in [delay for delay in delays().get(airport, []) if delay >= least][: max(most, 0)]:
        yield delay
        await asyncio.sleep(0)


@route("POST", "/flights/{origin}", output="flights.{origin}")
async def depart(flight: Flight, origin: str) -> Flight:
    """Report a departure: the answer comes once the stream has it."""
    if flight.origin != origin:
        raise Reject(f"the flight leaves from {flight.origin}, and the path says {origin}")
    return flight


@reply("airports", idempotent=True)
async def airports(ctx: Context[State]) -> Figures:
    """The same figures for an Ingress, whose path has no tokens: the airport is the last segment of what was asked."""
    code = ctx.headers["Jetrunner-Http-Path"].rpartition("/")[2]
    if code not in ctx.state.airports:
        raise Reject("there is no such airport")
    return await ctx.request(f"figures.{code}", None, returns=Figures)
