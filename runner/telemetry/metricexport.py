"""Metrics over OTLP: sent every minute, beside `/metrics`, and once more at the end; if they do not arrive, one log line says so."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.resources import Resource
from prometheus_client import Metric

from runner.errors import SettingsError
from runner.telemetry import otlpmetrics
from runner.telemetry.export import ONE_TRY
from runner.telemetry.hush import Hush
from runner.telemetry.metricsettings import MetricSettings

log = logging.getLogger("jetrunner.telemetry")

END_SECONDS = 2.0
"""Longest time for the last export."""


class MetricExport:
    """Sends the metrics of one process."""

    def __init__(
        self,
        settings: MetricSettings,
        project: str,
        instance: str,
        read: Callable[[], Sequence[Metric]],
    ) -> None:
        """`read` gives the families of `/metrics`; it is called in the event loop."""
        self._settings = settings
        self._read = read
        named = {
            "service.name": settings.service_name or project,
            "service.namespace": project,
            "service.instance.id": instance,
        }
        self._resource = {
            key: str(value)
            for key, value in Resource.create({**named, **dict(settings.resource)}).attributes.items()
        }
        self._start_ns = time.time_ns()
        self._hush = Hush()
        self._exporter = self._connect(settings.timeout)
        self._failing = False
        for warning in settings.warnings:
            log.warning("%s", warning)

    def _connect(self, timeout: float) -> OTLPMetricExporter:
        try:
            return OTLPMetricExporter(
                self._settings.endpoint, headers=dict(self._settings.headers), timeout=timeout
            )
        except Exception as error:  # it reads more variables itself: compression, certificates
            raise SettingsError(f"the OTEL_EXPORTER_OTLP_* variables do not fit: {error}") from error

    async def run(self) -> None:
        """Send the metrics every interval, until cancelled."""
        while True:
            await anyio.sleep(self._settings.interval)
            await self._send()

    async def end(self) -> None:
        """Send the metrics a last time, within `END_SECONDS`; with one try only if the previous export failed."""
        self._exporter.shutdown()  # wakes an export that sleeps before its next try
        self._exporter = self._connect(ONE_TRY if self._failing else min(self._settings.timeout, END_SECONDS))
        with anyio.move_on_after(END_SECONDS):
            await self._send()
            return
        self._tell("no answer in time")

    async def _send(self) -> None:
        try:
            families = self._read()
        except Exception:
            log.exception("the metrics could not be collected")
            return
        self._tell(await _in_thread(partial(self._export, self._exporter, families)))

    def _tell(self, reason: str) -> None:
        """Log once that metrics no longer arrive, and once that they do again."""
        where = self._settings.destination
        if not reason and self._failing:
            log.info("metrics arrive at %s again", where)
        elif reason and not self._failing:
            log.warning(
                "metrics do not arrive at %s: %s (OTEL_METRICS_EXPORTER=none turns them off)", where, reason
            )
        self._failing = bool(reason)

    def _export(self, exporter: OTLPMetricExporter, families: Sequence[Metric]) -> str:
        """Send the metrics; gives the reason if they did not arrive, else an empty text.

        The exporter's own client is used, because it has the headers, certificates and timeout.
        """
        with self._hush:
            try:
                request = otlpmetrics.request(families, self._resource, self._start_ns, time.time_ns())
                client = exporter._client  # noqa: SLF001  # as that of traces, `export.py`
                result = client.export(request.SerializeToString())
                if result.success:
                    return ""
                if result.error is not None:
                    self._hush.hear(f"{result.error}")
            except Exception as error:  # noqa: BLE001  whatever it is, the functions go on
                self._hush.hear(type(error).__name__)
            return self._hush.reason or "it was not taken"


async def _in_thread(work: Callable[[], str]) -> str:
    """Run `work` in a thread that the process does not wait for at its end: a collector may hang until its timeout."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def tell(result: str) -> None:
        if not done.done():
            done.set_result(result)

    def run() -> None:
        result = work()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, name="jetrunner-metrics", daemon=True).start()
    return await done
