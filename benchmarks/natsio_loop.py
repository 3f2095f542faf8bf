"""natsio as a contender: its own `consume`, a loop that acknowledges without decoding, in a process of its own.

python -m benchmarks.natsio_loop URL STREAM CONSUMER MESSAGES WINDOW

Runs on a Python of its own (3.13 or later, with natsio, msgspec and uvloop), which the environment variable VARIABLE names.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

import uvloop

from benchmarks.meter import Meter

VARIABLE = "BENCH_NATSIO_PYTHON"


async def run(url: str, stream: str, consumer: str, total: int, window: int) -> None:
    # By name, since it is not installed beside the rest.
    natsio: Any = import_module("natsio")
    finished = asyncio.Event()
    meter = Meter(total, finished.set)
    tick = meter.tick
    async with await natsio.connect(url) as client:
        found = await (await client.jetstream().stream(stream)).consumer(consumer)

        async def consume() -> None:
            async with found.consume(max_messages=window) as messages:
                async for message in messages:
                    tick()
                    await message.ack()

        consuming = asyncio.create_task(consume())
        await finished.wait()
        for _ in range(500):  # until the server has every ack; the clock has stopped
            info = await found.info()
            if not info.num_ack_pending and not info.num_pending:
                break
            await asyncio.sleep(0.01)
        consuming.cancel()
    meter.report()


def main() -> None:
    url, stream, consumer, total, window = sys.argv[1:]
    uvloop.run(run(url, stream, consumer, int(total), int(window)))


if __name__ == "__main__":
    main()
