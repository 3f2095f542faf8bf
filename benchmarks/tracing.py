"""Tracing: the same functions with no traces, with the default's sample, and with every message traced, to a sink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import structs

from benchmarks import outputs, sink, throughput
from benchmarks.contender import Contender
from benchmarks.meter import Measured
from benchmarks.server import Server
from benchmarks.throughput import DEFAULT

OFF, ON, ALL = "no-op, tracing off", "no-op, default tracing", "no-op, every message traced"
OUTPUT_OFF, OUTPUT_ON = "output, tracing off", "output, default tracing"
OUTPUT_ALL = "output, every message traced"


@contextmanager
def contenders(messages: int) -> Iterator[list[Contender]]:
    """The contenders while the sink listens."""
    with sink.running() as collector:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        every = on | {"OTEL_TRACES_SAMPLER": "always_on"}
        yield [
            throughput.ours(messages, DEFAULT, OFF),
            counted(throughput.ours(messages, DEFAULT, ON, on, OFF), collector, 1),
            counted(throughput.ours(messages, DEFAULT, ALL, every, OFF), collector, messages),
            outputs.ours(messages, DEFAULT, OUTPUT_OFF, beside=OUTPUT_OFF),
            counted(outputs.ours(messages, DEFAULT, OUTPUT_ON, on, OUTPUT_OFF), collector, 1),
            counted(outputs.ours(messages, DEFAULT, OUTPUT_ALL, every, OUTPUT_OFF), collector, 2 * messages),
        ]


def counted(contender: Contender, collector: sink.Sink, least: int) -> Contender:
    """The same contender, whose spans have to arrive; RuntimeError if some did not."""

    def run(server: Server, name: str) -> Measured:
        measured = contender.run(server, name)
        spans = collector.count()
        if spans < least:
            raise RuntimeError(f"{contender.name}: {spans} spans came of {least}")
        return measured

    return structs.replace(contender, run=run)
