"""Settings for metrics over OTLP from the standard OTEL_* variables: no metrics are sent unless a variable asks for it.

`OTEL_EXPORTER_OTLP_ENDPOINT` alone does not ask for it: there may be a Jaeger, which takes no metrics.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from runner.telemetry.settings import (
    choice,
    endpoint,
    milliseconds,
    pairs,
    specific,
    text,
    timeout,
    without_credentials,
)

INTERVAL = 60.0


class MetricSettings(Struct, frozen=True, kw_only=True):
    """Where metrics go, and how often."""

    endpoint: str
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each export; may hold credentials, so never shown."""
    timeout: float
    """Seconds for one export, its retries included."""
    interval: float
    """Seconds between exports."""
    service_name: str = ""
    """The service's name; empty: the project's name."""
    resource: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def destination(self) -> str:
        """The endpoint without the credentials it may hold."""
        return without_credentials(self.endpoint)


def load(environ: Mapping[str, str]) -> MetricSettings | None:
    """Read the variables; None if no metrics are sent. Raises SettingsError if the endpoint is not an http or https URL."""
    warnings: list[str] = []
    exporter = choice(environ, "OTEL_METRICS_EXPORTER", ("otlp", "none"), warnings)
    off = exporter == "none" or text(environ, "OTEL_SDK_DISABLED").lower() == "true"
    if off or not (exporter == "otlp" or text(environ, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")):
        return None
    attributes = pairs(environ, "OTEL_RESOURCE_ATTRIBUTES", [])
    return MetricSettings(
        endpoint=endpoint(environ, warnings, "metrics"),
        headers=pairs(environ, specific(environ, "HEADERS", "metrics"), warnings),
        timeout=timeout(environ, warnings, "metrics"),
        interval=milliseconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", INTERVAL, warnings),
        service_name=text(environ, "OTEL_SERVICE_NAME") or dict(attributes).get("service.name", ""),
        resource=tuple(pair for pair in attributes if pair[0] != "service.name"),
        warnings=tuple(warnings),
    )
