"""Traces of commands."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from runner import devserver
from runner.cli import logs
from runner.telemetry import settings
from runner.telemetry.collector import listens
from runner.telemetry.tracing import Tracing

FLUSH_SECONDS = 3.0


@asynccontextmanager
async def tracing(project: str, root: Path) -> AsyncIterator[Tracing]:
    """Tracing for the time of the block.

    If no collector is set, spans go to the `runner dev` of this project, if that runs, and a missing collector is not logged.
    """
    if not logs.debugging() and not settings.load(os.environ).asked:
        logging.getLogger("jetrunner.telemetry").setLevel(logging.ERROR)
    found = settings.load(devserver.traced(root, os.environ))
    chosen = Tracing(found, project or "runner", one_try=True)
    try:
        yield chosen
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(chosen.shutdown, FLUSH_SECONDS))


async def tell_collector(*, kept: bool = False) -> bool:
    """Whether a collector accepts traces; if none does, that is logged once, for all processes that this one starts.

    `kept`: this process keeps the traces for `runner trace`.
    """
    destination = settings.load(os.environ)
    if await anyio.to_thread.run_sync(listens, destination):
        return True
    log, where = logging.getLogger("jetrunner.telemetry"), destination.destination
    if kept:
        log.info("no collector listens at %s: `runner trace ID` shows traces for as long as this runs", where)
    else:
        log.warning(
            "no collector listens at %s: traces are lost until one does (OTEL_TRACES_EXPORTER=none turns them off)",
            where,
        )
    return False
