"""Whether a collector listens at the endpoint for spans."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from runner.telemetry.settings import TelemetrySettings

LOOK_SECONDS = 0.3


def listens(settings: TelemetrySettings) -> bool:
    """Connect once, for 0.3 s at most. True also if spans do not go over a network."""
    if settings.exporter != "otlp":
        return True
    parts = urlsplit(settings.endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=LOOK_SECONDS):
            return True
    except OSError:
        return False
