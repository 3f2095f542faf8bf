"""Traces and metrics over OTLP: the only importer of OpenTelemetry. Other rooms start at `tracing`."""
