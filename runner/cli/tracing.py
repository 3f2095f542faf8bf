"""Traces of a command that ends at once."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread

from runner.cli import logs
from runner.telemetry import settings
from runner.telemetry.collector import listens
from runner.telemetry.tracing import Tracing

FLUSH_SECONDS = 3.0


@asynccontextmanager
async def tracing(project: str) -> AsyncIterator[Tracing]:
    """Tracing for the time of the block. A collector that nobody asked for and that is not there is no news."""
    found = settings.load(os.environ)
    if not logs.debugging() and not found.asked:
        logging.getLogger("jetrunner.telemetry").setLevel(logging.ERROR)
    chosen = Tracing(found, project or "runner", one_try=True)
    try:
        yield chosen
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(chosen.shutdown, FLUSH_SECONDS))


async def tell_collector() -> None:
    """Report once, for all processes that this one starts, that no collector accepts traces."""
    destination = settings.load(os.environ)
    if not await anyio.to_thread.run_sync(listens, destination):
        logging.getLogger("jetrunner.telemetry").warning(
            "no collector listens at %s: traces are lost until one does (OTEL_TRACES_EXPORTER=none turns them off)",
            destination.destination,
        )
