"""FastStream's JetStream pull subscriber as a contender, in a process of its own.

python -m benchmarks.fast_stream noop|real|batch URL STREAM SUBJECT CONSUMER MESSAGES BATCH

`real` takes the body, a token of the subject and the message, as the handler of ours does; `batch` takes a list of bodies, by
its batch subscriber. Its fast options: the msgspec serializer, one fetch for a whole batch, a task for each message of it, no log.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

import nats
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig

from benchmarks.bare import settled
from benchmarks.meter import Meter
from benchmarks.workload import Order


async def run(kind: str, url: str, stream: str, subject: str, consumer: str, total: int, batch: int) -> None:
    # By name, since it is installed for benchmarks alone.
    framework = import_module("faststream.nats")
    serializer = import_module("fast_depends.msgspec").MsgSpecSerializer()
    broker = framework.NatsBroker(url, logger=None, serializer=serializer)
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

    handler: Any = many if kind == "batch" else noop
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


def main() -> None:
    kind, url, stream, subject, consumer, total, batch = sys.argv[1:]
    uvloop.run(run(kind, url, stream, subject, consumer, int(total), int(batch)))


if __name__ == "__main__":
    main()
