"""Outputs: each input makes one output with a Msg-Id, which is confirmed before the input is acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from benchmarks import contender
from benchmarks.contender import Contender
from benchmarks.meter import Measured
from benchmarks.server import Server
from benchmarks.throughput import DEFAULT, WIDE

BARE = "nats-py publish_async"


def contenders(messages: int) -> list[Contender]:
    return [
        Contender(BARE, messages, partial(bare, "publish_async", messages)),
        Contender("nats-py publish in 64 tasks", messages, partial(bare, "publish", messages)),
        ours(messages, DEFAULT),
        ours(messages, WIDE),
    ]


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
    server.stream(f"OUT_{run}", f"out.{run}.*")
    arguments = ("output", server.url, "BENCH", "orders.*", run, messages, concurrency)
    measured = contender.python("ours", *arguments, env=env)
    contender.check(server, "BENCH", f"bench-{run}", messages)
    check(server, run, messages)
    return measured


def bare(kind: str, messages: int, server: Server, run: str) -> Measured:
    server.stream(f"OUT_{run}", f"out.{run}.*")
    server.consumer("BENCH", run)
    measured = contender.python("bare", kind, server.url, "BENCH", run, run, messages, WIDE)
    contender.check(server, "BENCH", run, messages)
    check(server, run, messages)
    return measured


def check(server: Server, run: str, total: int) -> None:
    """One output stands for each input; the stream is gone afterwards."""
    stored = server.api(f"STREAM.INFO.OUT_{run}")["state"]["messages"]
    if stored != total:
        raise RuntimeError(f"{run}: {stored} outputs of {total} inputs")
    server.api(f"STREAM.DELETE.OUT_{run}")
