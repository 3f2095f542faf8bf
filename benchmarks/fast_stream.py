"""FastStream's JetStream pull subscriber as a contender, in a process of its own.

python -m benchmarks.fast_stream noop|compute|real|batch URL STREAM SUBJECT CONSUMER MESSAGES BATCH

`real` takes the body, a token of the subject and the message, as the handler of ours does; `batch` takes a list of bodies, by
its batch subscriber. With OTEL_EXPORTER_OTLP_ENDPOINT its middleware traces every message, as its documentation sets it up: a provider with a
batch processor and the exporter of OTLP over HTTP. Its fast options: the msgspec serializer, one fetch for a whole batch, a task for each message of it, no log.
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

from benchmarks.bare import settled
from benchmarks.meter import Meter
from benchmarks.ours import COMPUTED_NS
from benchmarks.workload import Order


def traced() -> Any:
    """A provider of the SDK's with every default."""
    trace = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()
    provider = trace.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return provider


async def run(kind: str, url: str, stream: str, subject: str, consumer: str, total: int, batch: int) -> None:
    # By name, since it is installed for benchmarks alone.
    framework = import_module("faststream.nats")
    serializer = import_module("fast_depends.msgspec").MsgSpecSerializer()
    provider = traced() if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else None
    middleware = import_module("faststream.nats.opentelemetry").NatsTelemetryMiddleware if provider else None
    middlewares = [middleware(tracer_provider=provider)] if middleware else []
    broker = framework.NatsBroker(url, logger=None, serializer=serializer, middlewares=middlewares)
    finished = asyncio.Event()
    meter = Meter(total, finished.set)
    tick = meter.tick

    async def noop(order: Order) -> None:
        tick()

    async def real(order: Order, customer: str, message: Any) -> None:
        tick()

    async def many(orders: list[Order]) -> None:
        for _ in orders:
            tick()

    async def compute(order: Order) -> None:
        tick()
        end = time.thread_time_ns() + COMPUTED_NS
        while time.thread_time_ns() < end:
            pass

    handlers: dict[str, Any] = {"batch": many, "compute": compute}
    handler: Any = handlers.get(kind, noop)
    if kind == "real":
        handler = real
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
    meter.report()
    await broker.stop()
    if provider is not None:
        provider.shutdown()


def main() -> None:
    kind, url, stream, subject, consumer, total, batch = sys.argv[1:]
    uvloop.run(run(kind, url, stream, subject, consumer, int(total), int(batch)))


if __name__ == "__main__":
    main()
