"""FastStream's JetStream pull subscriber as a contender, in a process of its own.

python -m benchmarks.fast_stream noop|compute|real|batch URL STREAM SUBJECT CONSUMER MESSAGES BATCH

`real` takes the body, a token of the subject and the message, as the handler of ours does; `batch` takes a list of bodies, by
its batch subscriber; `compute` uses 0.1 ms of CPU, as that of ours does. Where OTEL_EXPORTER_OTLP_ENDPOINT is set, its OpenTelemetry middleware
traces every message, through the exporter and the batch processor of the SDK. Its fast options: the msgspec serializer, one fetch for a whole batch, a task for each message of it, no log.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib import import_module
from typing import Any

import nats
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.bare import settled
from benchmarks.meter import Meter
from benchmarks.ours import COMPUTED_NS
from benchmarks.workload import Order


async def run(kind: str, url: str, stream: str, subject: str, consumer: str, total: int, batch: int) -> None:
    # By name, since it is installed for benchmarks alone.
    framework = import_module("faststream.nats")
    serializer = import_module("fast_depends.msgspec").MsgSpecSerializer()
    provider = traces() if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else None
    middlewares = []
    if provider is not None:
        telemetry = import_module("faststream.nats.opentelemetry")
        middlewares = [telemetry.NatsTelemetryMiddleware(tracer_provider=provider)]
    broker = framework.NatsBroker(url, logger=None, serializer=serializer, middlewares=middlewares)
    finished = asyncio.Event()
    meter = Meter(total, finished.set)
    tick = meter.tick

    async def noop(order: Order) -> None:
        tick()

    async def compute(order: Order) -> None:
        tick()
        end = time.thread_time_ns() + COMPUTED_NS
        while time.thread_time_ns() < end:
            pass

    async def real(order: Order, customer: str, message: Any) -> None:
        tick()

    async def many(orders: list[Order]) -> None:
        for _ in orders:
            tick()

    handler: Any = {"noop": noop, "compute": compute, "real": real, "batch": many}[kind]
    if kind == "real":
        subject = subject.replace("*", "{customer}")
        real.__defaults__ = (import_module("faststream").Path(), None)
        real.__annotations__["message"] = import_module("faststream.nats.annotations").NatsMessage

    broker.subscriber(
        subject,
        stream=framework.JStream(stream, declare=False),
        durable=consumer,
        config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=-1),
        pull_sub=framework.PullSub(batch_size=batch, batch=kind == "batch"),
    )(handler)
    await broker.start()
    print("ready", flush=True)
    await finished.wait()
    client = await nats.connect(url)
    await settled(client, stream, consumer)
    await client.close()
    await broker.stop()
    if provider is not None:
        provider.shutdown()  # what it still has is sent
    meter.report()


def traces() -> TracerProvider:
    """As its documentation sets it up, and as the variables say."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def main() -> None:
    kind, url, stream, subject, consumer, total, batch = sys.argv[1:]
    uvloop.run(run(kind, url, stream, subject, consumer, int(total), int(batch)))


if __name__ == "__main__":
    main()
