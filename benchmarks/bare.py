"""nats-py as a contender: the least code that pulls, handles and acknowledges, in a process of its own.

python -m benchmarks.bare noop|publish|publish_async|latency URL STREAM CONSUMER NAME MESSAGES WINDOW

`noop` is the bare loop: a callback that acknowledges, without decoding. WINDOW is how many messages may be on their
way or unsettled; half of it is asked for each time that half of it has been settled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.meter import Meter
from benchmarks.timing import Latencies
from benchmarks.workload import Order, Timed

TASKS = 64
"""Workers of the two publishing loops."""
EXPIRES_NS = 600_000_000_000
"""A run is over before a request expires, so that no callback has to look for statuses."""


class Pull:
    """Where to ask for messages of one consumer, and how many at once."""

    def __init__(self, client: Client, stream: str, consumer: str, window: int) -> None:
        self.client = client
        self.inbox = client.new_inbox()
        self.half = window // 2
        self.target = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.request = msgspec.json.encode({"batch": self.half, "expires": EXPIRES_NS})

    async def start(self, callback: Callable[[Msg], Awaitable[None]]) -> None:
        await self.client.subscribe(self.inbox, cb=callback, pending_msgs_limit=-1, pending_bytes_limit=-1)
        for _ in range(2):
            await self.ask()

    async def ask(self) -> None:
        await self.client.publish(self.target, self.request, reply=self.inbox)


async def noop(pull: Pull, meter: Meter) -> None:
    tick, publish, half, open_ = meter.tick, pull.client.publish, pull.half, 2 * pull.half

    async def callback(message: Msg) -> None:
        nonlocal open_
        tick()
        await publish(message.reply, b"+ACK")
        open_ -= 1
        if open_ <= half:
            open_ += half
            await pull.ask()

    await pull.start(callback)


async def latency(pull: Pull, latencies: Latencies) -> None:
    decode, clock, publish = msgspec.json.Decoder(Timed).decode, time.monotonic_ns, pull.client.publish
    half, open_ = pull.half, 2 * pull.half

    async def callback(message: Msg) -> None:
        nonlocal open_
        latencies.record(clock() - decode(message.data).sent)
        await publish(message.reply, b"+ACK")
        open_ -= 1
        if open_ <= half:
            open_ += half
            await pull.ask()

    await pull.start(callback)


async def publishing(pull: Pull, meter: Meter, name: str, *, future: bool, tasks: asyncio.TaskGroup) -> None:
    """Decode, publish with a Msg-Id, acknowledge when the PubAck is here; `future`: the worker does not wait for it."""
    js = pull.client.jetstream()
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.encode
    publish, half, open_ = pull.client.publish, pull.half, 2 * pull.half
    queue: asyncio.Queue[Msg] = asyncio.Queue()
    target = f"out.{name}.x"

    async def settle(message: Msg) -> None:
        nonlocal open_
        await publish(message.reply, b"+ACK")
        open_ -= 1
        if open_ <= half:
            open_ += half
            await pull.ask()

    async def settle_after(message: Msg, stored: Awaitable[object]) -> None:
        await stored
        await settle(message)

    async def worker() -> None:
        while True:
            message = await queue.get()
            meter.tick()
            body = encode(decode(message.data))
            headers = {"Nats-Msg-Id": f"S:{message.reply.split('.')[-4]}:{name}"}
            if future:
                stored = await js.publish_async(target, body, headers=headers)
                tasks.create_task(settle_after(message, stored))
            else:
                await js.publish(target, body, headers=headers)
                await settle(message)

    async def callback(message: Msg) -> None:
        queue.put_nowait(message)

    for _ in range(TASKS):
        tasks.create_task(worker())
    await pull.start(callback)


async def run(kind: str, url: str, stream: str, consumer: str, name: str, total: int, window: int) -> None:
    client = await nats.connect(url)
    pull = Pull(client, stream, consumer, window)
    finished = asyncio.Event()
    report: Meter | Latencies
    workers: asyncio.Task[None] | None = None
    if kind == "latency":
        report = latencies = Latencies(total, finished.set)
        await latency(pull, latencies)
    else:
        report = meter = Meter(total, finished.set)
        if kind == "noop":
            await noop(pull, meter)
        else:
            workers = asyncio.create_task(publishers(pull, meter, name, kind == "publish_async"))
    print("ready", flush=True)
    await finished.wait()
    await settled(client, stream, consumer)
    if workers is not None:
        workers.cancel()
    await client.close()
    report.report()


async def publishers(pull: Pull, meter: Meter, name: str, future: bool) -> None:
    async with asyncio.TaskGroup() as tasks:
        await publishing(pull, meter, name, future=future, tasks=tasks)


async def settled(client: Client, stream: str, consumer: str) -> None:
    """Wait until the server has every ack; after the clock has stopped."""
    js = client.jetstream()
    for _ in range(500):
        info = await js.consumer_info(stream, consumer)
        if not info.num_ack_pending and not info.num_pending:
            return
        await asyncio.sleep(0.01)


def main() -> None:
    kind, url, stream, consumer, name, total, window = sys.argv[1:]
    uvloop.run(run(kind, url, stream, consumer, name, int(total), int(window)))


if __name__ == "__main__":
    main()
