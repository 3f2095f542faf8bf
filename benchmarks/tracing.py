"""Tracing: the same functions with default traces to a receiver on the loopback, and with none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import outputs, throughput
from benchmarks.contender import Contender
from benchmarks.throughput import DEFAULT
from runner.telemetry.receiver import Receiver

OFF, ON = "no-op, tracing off", "no-op, default tracing"
OUTPUT_OFF, OUTPUT_ON = "output, tracing off", "output, default tracing"


@contextmanager
def contenders(messages: int) -> Iterator[list[Contender]]:
    """The contenders while the receiver listens; RuntimeError if no span came."""
    with Receiver() as receiver:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        yield [
            throughput.ours(messages, DEFAULT, OFF),
            throughput.ours(messages, DEFAULT, ON, on, OFF),
            outputs.ours(messages, DEFAULT, OUTPUT_OFF, beside=OUTPUT_OFF),
            outputs.ours(messages, DEFAULT, OUTPUT_ON, on, OUTPUT_OFF),
        ]
        if not receiver.spans():
            raise RuntimeError("no span came: tracing was not on")
