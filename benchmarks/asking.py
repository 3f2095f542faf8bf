"""Requests: one process answers, another asks, by nats-py's own request and callback, by those of Go's client, or by ours.

python -m benchmarks.asking answer|ask nats-py|jetrunner URL REQUESTS IN_FLIGHT; in Go it is `go/asking.go`, with the same arguments.

Whoever answers says "ready"; whoever asks keeps so many requests in flight, and says what it measured. Both sides of both encode and
decode JSON, and each request has a time after which it is given up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg

from benchmarks import golang
from benchmarks.contender import environment, finish, started
from benchmarks.meter import Measured, Meter, used_by
from benchmarks.workload import Order, order
from runner import connect, reply
from runner.bindings import binding_of
from runner.cli import loop
from runner.config import Settings
from runner.discovery import Project
from runner.process.app import Serving, serve
from runner.runtime.stop import Stop

NATS_PY, GO, JETRUNNER = "nats-py", "nats.go", "jetrunner"
SUBJECT = "quotes.ada"
SECONDS = 5.0
"""A request is given up after so long."""


class Quote(msgspec.Struct):
    id: str
    total: float


decode = msgspec.json.Decoder(Order).decode
decode_quote = msgspec.json.Decoder(Quote).decode
encode = msgspec.json.Encoder().encode


def run(kind: str, url: str, requests: int, in_flight: int, env: dict[str, str] | None) -> Measured:
    """Both processes; the CPU is that of both together."""
    here = [str(golang.asking())] if kind == GO else [sys.executable, "-m", "benchmarks.asking"]
    given = list(map(str, (url, requests, in_flight) if kind == GO else (kind, url, requests, in_flight)))
    with started([*here, "answer", *given], environment(env)) as answering:
        assert answering.stdout is not None
        if answering.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{kind} does not answer")
        before = used_by(answering.pid)
        with started([*here, "ask", *given], environment(env)) as asking:
            measured = msgspec.json.decode(finish(asking), type=Measured)
        cpu = (used_by(answering.pid) - before) / requests * 1e6
    return msgspec.structs.replace(measured, cpu=measured.cpu + cpu)


# -- who answers ------------------------------------------------------------------------------------------


async def answer_by_nats_py(url: str) -> None:
    client = await nats.connect(url)

    async def callback(message: Msg) -> None:
        found = decode(message.data)
        await message.respond(encode(Quote(found.id, found.total)))

    await client.subscribe("quotes.*", queue="q", cb=callback)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


@reply("quotes.*", idempotent=True)
async def quote(found: Order) -> Quote:
    return Quote(found.id, found.total)


async def answer_by_jetrunner(url: str) -> None:
    binding = binding_of(quote)
    assert binding is not None
    project = Project(Path(), "bench", (binding,))
    await serve(
        Serving(
            project=project,
            settings=Settings(name="bench", nats_url=url),
            functions=project.functions,
            stop=Stop(),
            ready=lambda _: print("ready", flush=True),
        )
    )


# -- who asks ---------------------------------------------------------------------------------------------


async def keep_asking(ask: Callable[[], Awaitable[Quote]], requests: int, in_flight: int) -> None:
    """So many at any time, until all are answered."""
    await ask()  # who answers is found out, before the clock starts
    meter = Meter(requests, lambda: None)
    tick, left, clock = meter.tick, iter(range(requests)), time.perf_counter
    delays: list[float] = []

    async def one() -> None:
        for _ in left:
            sent = clock()
            await ask()
            delays.append(clock() - sent)
            tick()

    await asyncio.gather(*(one() for _ in range(in_flight)))
    meter.report(sorted(delays))


async def ask_by_nats_py(url: str, requests: int, in_flight: int) -> None:
    client = await nats.connect(url)
    asked = msgspec.json.decode(order(), type=Order)

    async def ask() -> Quote:
        return decode_quote((await client.request(SUBJECT, encode(asked), timeout=SECONDS)).data)

    await keep_asking(ask, requests, in_flight)
    await client.close()


async def ask_by_jetrunner(url: str, requests: int, in_flight: int) -> None:
    asked = msgspec.json.decode(order(), type=Order)
    async with connect(settings=Settings(name="bench", nats_url=url)) as app:

        async def ask() -> Quote:
            return await app.request(SUBJECT, asked, returns=Quote, timeout=SECONDS)

        await keep_asking(ask, requests, in_flight)


def main() -> None:
    role, kind, url, requests, in_flight = sys.argv[1:]
    if role == "answer" and kind == NATS_PY:
        uvloop.run(answer_by_nats_py(url))
    elif role == "answer":
        loop.run(lambda: answer_by_jetrunner(url))
    elif kind == NATS_PY:
        uvloop.run(ask_by_nats_py(url, int(requests), int(in_flight)))
    else:
        uvloop.run(ask_by_jetrunner(url, int(requests), int(in_flight)))


if __name__ == "__main__":
    main()
