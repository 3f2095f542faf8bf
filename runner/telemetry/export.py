"""Export of spans: a thread of the SDK sends them in batches, the end is bounded in time, and a failure is logged once."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from runner.errors import SettingsError
from runner.telemetry.hush import Hush
from runner.telemetry.settings import TelemetrySettings
from runner.telemetry.spanqueue import SpanQueue

LOG = logging.getLogger("jetrunner.telemetry")
LAST_TRY_SECONDS = 0.3
"""Time at the end for a collector that took nothing the last time."""
DROPS_SECONDS = 60.0
"""Least time between two log lines about spans that were dropped because the queue was full."""
# The exporter waits at least 0.8 s before it tries again: with a shorter timeout it tries once.
ONE_TRY = 0.75


class QuietExporter(SpanExporter):
    """An exporter that never raises, and logs once that it fails, and once that it works again."""

    def __init__(self, connect: Callable[[float], SpanExporter], destination: str, timeout: float) -> None:
        """`connect` makes the inner exporter, with a timeout in seconds."""
        self._connect = connect
        self._inner = connect(timeout)
        self._destination = destination
        self._hush = Hush()
        self._closing = False
        self._given_up = False
        self._took = False
        self.failing = False
        self.lost = 0
        """Spans that did not arrive since the last batch that did."""
        self.dropped = 0
        """Spans that were dropped because the queue was full, since the start."""
        self.unsent = 0
        """Spans that were sent but did not arrive, since the start."""
        self._tell_drops = 0.0
        self._one_at_a_time = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; spans that do not arrive are given up."""
        arrived = self._deliver(len(spans), lambda: self._sent_all(spans))
        return SpanExportResult.SUCCESS if arrived else SpanExportResult.FAILURE

    def send(self, request: bytes, spans: int) -> bool:
        """Send encoded spans; spans that do not arrive are given up."""
        return self._deliver(spans, lambda: self._posted(request))

    def drop(self, spans: int) -> None:
        """Count dropped spans, and log them unless the reason is that no spans arrive, which was logged."""
        self.dropped += spans
        if self.failing:
            self.lost += spans
        elif time.monotonic() >= self._tell_drops:
            self._tell_drops = time.monotonic() + DROPS_SECONDS
            LOG.warning("%d spans were dropped, more than %s takes in time (%d since the start)",
                        spans, self._destination, self.dropped)  # fmt: skip

    def _deliver(self, spans: int, send: Callable[[], bool]) -> bool:
        with self._one_at_a_time:
            closing = self._closing
            if self._given_up:
                self.lost += spans
                self.unsent += spans
                return False
            with self._hush:
                sent = send()
                reason = "" if sent else self._hush.reason
            if sent:
                if self.failing:
                    LOG.info("traces arrive at %s again; %d spans were lost", self._destination, self.lost)
                self.failing, self.lost, self._took = False, 0, True
                return True
            self.lost += spans
            self.unsent += spans
            self._given_up = closing  # a failure now must not delay the end of the process again
            if not self.failing:
                self.failing = True
                LOG.warning("traces do not arrive at %s: %s (OTEL_TRACES_EXPORTER=none turns them off)",
                            self._destination, reason)  # fmt: skip
            return False

    def _sent_all(self, spans: Sequence[ReadableSpan]) -> bool:
        sent = self._sent(spans)
        if not sent and self._hush.undecodable and len(spans) > 1:
            # One span that cannot be encoded, such as one with half a surrogate pair in a text, must not cost the other 511.
            return sum(self._sent((span,)) for span in spans) > 0
        return sent

    def _sent(self, spans: Sequence[ReadableSpan]) -> bool:
        try:
            return self._inner.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001  a traceback a batch is what this class is there to prevent
            self._hush.hear(type(error).__name__)
            return False

    def _posted(self, request: bytes) -> bool:
        # The exporter's own client, so that endpoint, headers, compression, certificates and timeout are the same for all.
        client = self._inner._client  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            return bool(client.export(request).success)
        except Exception as error:  # noqa: BLE001
            self._hush.hear(type(error).__name__)
            return False

    def hurry(self) -> None:
        """Prepare for the end of the process: the rest gets one short try, unless the collector has taken spans before."""
        if self.failing or not self._took:
            self._inner.shutdown()  # wakes an export that sleeps before its next try
            self._inner = self._connect(ONE_TRY)
        self._closing = True

    def shutdown(self) -> None:
        """Close the connection."""
        with self._hush:
            self._inner.shutdown()
        self._hush.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: no spans wait in this class."""
        return True


class Export:
    """One queue and one exporter for all services of the process."""

    def __init__(self, settings: TelemetrySettings, *, one_try: bool = False) -> None:
        """`one_try` is for commands that end at once: a missing collector costs them less than 1 s."""

        def connect(timeout: float) -> SpanExporter:
            if settings.exporter == "console":
                return ConsoleSpanExporter(out=sys.stderr)  # stdout is for data
            try:
                return OTLPSpanExporter(settings.endpoint, headers=dict(settings.headers), timeout=timeout)
            except Exception as error:  # it reads more variables itself: compression, certificates
                raise SettingsError(f"the OTEL_EXPORTER_OTLP_* variables do not fit: {error}") from error

        timeout = min(settings.timeout, ONE_TRY) if one_try else settings.timeout
        self._exporter = QuietExporter(connect, settings.destination, timeout)
        interval = settings.interval * 1000
        try:
            self.processor = BatchSpanProcessor(self._exporter, schedule_delay_millis=interval)
        except ValueError as error:
            raise SettingsError(f"the OTEL_BSP_* variables do not fit: {error}") from error
        self.queue: SpanQueue | None = None
        """The queue of the runner's own spans, if they are encoded here."""
        if settings.exporter == "otlp":
            self.queue = SpanQueue(
                self._exporter.send,
                settings.interval,
                most=settings.most,
                batch=settings.batch,
                dropped=self._exporter.drop,
            )

    @property
    def arriving(self) -> bool:
        """Whether the last batch arrived, or none was sent yet."""
        return not self._exporter.failing

    @property
    def lost(self) -> int:
        """Spans that did not arrive, since the start."""
        return self._exporter.dropped + self._exporter.unsent

    def presume_missing(self) -> None:
        """Assume that the collector is missing, until a batch arrives: somebody has logged that already."""
        self._exporter.failing = True

    def flush(self, timeout: float) -> bool:
        """Send the queued spans. False if that takes longer than `timeout` seconds, or fails."""
        return _within(timeout, self._flush) and not self._exporter.failing

    def _flush(self) -> None:
        if self.queue is not None:
            self.queue.flush()
        self.processor.force_flush()

    def shutdown(self, timeout: float) -> bool:
        """Send the queued spans and end, in `timeout` seconds at most. False if spans were lost."""
        if self._exporter.failing:
            timeout = min(timeout, LAST_TRY_SECONDS)
        self._exporter.hurry()
        # With a hanging collector the SDK alone would take 30 s.
        ended = _within(timeout, self._end)
        return ended and not self._exporter.lost and not self._exporter.dropped

    def _end(self) -> None:
        if self.queue is not None:
            self.queue.shutdown()
        self.processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK left it bare


def _within(seconds: float, act: Callable[[], object]) -> bool:
    thread = threading.Thread(target=act, name="jetrunner-telemetry", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
