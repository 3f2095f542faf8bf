"""What the functions share: opened once a process, closed when it ends."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from functions._airports import Place, airports
from runner import lifespan

DEFAULT_URL = "http://127.0.0.1:8099/alerts"


@dataclass
class State:
    """What a handler finds in `ctx.state`."""

    http: httpx.AsyncClient
    alerts_url: str
    airports: dict[str, Place]
    departures: Counter[str] = field(default_factory=Counter)


@lifespan
async def state() -> AsyncIterator[State]:
    """One HTTP client with its connections, and the airports; `ALERTS_URL` is where alerts are posted."""
    async with httpx.AsyncClient(timeout=5.0) as http:
        yield State(http, os.environ.get("ALERTS_URL", DEFAULT_URL), airports())
