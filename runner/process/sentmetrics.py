"""Metrics that this process sends over OTLP for as long as it runs, where the OTEL_* variables ask for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from prometheus_client.core import Metric

from runner.telemetry import metricsettings


@asynccontextmanager
async def sending(
    tasks: TaskGroup, project: str, instance: str, read: Callable[[], Sequence[Metric]]
) -> AsyncIterator[None]:
    """Send the metrics of `read` every 60 s by default, and at the end of the block. Raises SettingsError for a wrong endpoint."""
    settings = metricsettings.load(os.environ)
    if settings is None:
        yield
        return
    # To import the SDK takes 150 ms and 20 MB.
    from runner.telemetry.metricexport import MetricExport  # noqa: PLC0415  only where it is used

    export = MetricExport(settings, project, instance, read)
    tasks.start_soon(export.run)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await export.end()
