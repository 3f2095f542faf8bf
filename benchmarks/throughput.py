"""Throughput: a typed no-op function with explicit acks, beside other clients; and the price of tracing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

from benchmarks import contender
from benchmarks.contender import Contender
from benchmarks.meter import Measured
from benchmarks.server import Server

DEFAULT, WIDE = 64, 1024
"""Concurrency: the default, and one as wide as a client's usual pull."""
SMALLER = 10
"""FastStream gets so many times fewer messages: its rate is what is asked, not patience."""

BATCH = 1000
"""What FastStream fetches at once: its last fetch should be a whole one."""

BARE = f"nats-py callback, window {WIDE}"


def contenders(server: Server, messages: int) -> tuple[list[Contender], list[str]]:
    """The contenders, and those that are missing here."""
    few = max(1, messages // SMALLER)
    found = [
        Contender(BARE, messages, partial(bare, messages, WIDE)),
        Contender(f"nats-py callback, window {DEFAULT}", messages, partial(bare, messages, DEFAULT)),
        ours(messages, DEFAULT),
        ours(messages, WIDE),
    ]
    skipped = []
    if find_spec("faststream"):
        server.stream("FEW", "few.*")
        server.fill("FEW", "few", few)
        found.append(Contender(f"FastStream pull, batch {BATCH}", few, partial(faststream, few)))
    else:
        skipped.append("FastStream: install the dependency group `bench`")
    if contender.go_client():
        found.append(Contender(f"nats bench js consume, batch {WIDE}", messages, partial(golang, messages)))
    else:
        skipped.append("nats bench js consume: no `nats` on PATH or in ~/go/bin")
    for line in skipped:
        print(f"SKIPPED  {line}", file=sys.stderr)
    return found, skipped


def ours(
    messages: int, concurrency: int, name: str = "", env: Mapping[str, str] | None = None, beside: str = ""
) -> Contender:
    return Contender(
        name or f"jetrunner, concurrency {concurrency}",
        messages,
        partial(jetrunner, messages, concurrency, env),
        beside,
    )


def jetrunner(
    messages: int, concurrency: int, env: Mapping[str, str] | None, server: Server, run: str
) -> Measured:
    arguments = ("noop", server.url, "BENCH", "orders.*", run, messages, concurrency)
    measured = contender.python("ours", *arguments, env=env)
    contender.check(server, "BENCH", f"bench-{run}", messages)
    return measured


def bare(messages: int, window: int, server: Server, run: str) -> Measured:
    server.consumer("BENCH", run)
    measured = contender.python("bare", "noop", server.url, "BENCH", run, run, messages, window)
    contender.check(server, "BENCH", run, messages)
    return measured


def faststream(messages: int, server: Server, run: str) -> Measured:
    measured = contender.python("fast_stream", server.url, "FEW", "few.*", run, messages, BATCH)
    contender.check(server, "FEW", run, messages)
    return measured


def golang(messages: int, server: Server, run: str) -> Measured:
    server.consumer("BENCH", run)
    measured = contender.go(server, "BENCH", run, messages, WIDE)
    contender.check(server, "BENCH", run, messages)
    return measured
