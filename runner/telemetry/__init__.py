"""Traces: the only importer of OpenTelemetry. `tracing` is the way in."""
