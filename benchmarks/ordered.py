"""Strict order: the same function with and without `ordered_by`, on streams of 8 and of 32 shards with 10,000 keys."""

from __future__ import annotations

from functools import partial

from benchmarks import contender
from benchmarks.contender import Contender
from benchmarks.meter import Measured
from benchmarks.server import Server
from benchmarks.throughput import WIDE

KEYS = 10_000
SHARDS = 8, 32


def contenders(server: Server, messages: int) -> list[Contender]:
    found = []
    for shards in SHARDS:
        name = f"no order, {shards} shards"
        token = f"of{shards}"
        dest = f"shard.1.{{{{partition({shards},1)}}}}.{token}.{{{{wildcard(1)}}}}"
        transform = {"src": f"{token}.*", "dest": dest}
        server.stream(stream(shards), f"{token}.*", subject_transform=transform, allow_direct=True)
        server.fill(stream(shards), token, messages, KEYS)
        found += [
            Contender(name, messages, partial(run, "noop", shards, messages), name),
            Contender(
                f"ordered_by, {shards} shards", messages, partial(run, "ordered", shards, messages), name
            ),
        ]
    return found


def stream(shards: int) -> str:
    return f"OF{shards}"


def run(kind: str, shards: int, messages: int, server: Server, name: str) -> Measured:
    arguments = (kind, server.url, stream(shards), f"of{shards}.*", name, messages, WIDE)
    measured = contender.python("ours", *arguments)
    durables = [f"bench-{name}-1-{n}" for n in range(shards)] if kind == "ordered" else [f"bench-{name}"]
    contender.check(server, stream(shards), durables, messages)
    return measured
