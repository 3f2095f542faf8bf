"""The sections that compare: the same work by several clients, or by one under several settings."""

from __future__ import annotations

from typing import Any

from benchmarks.arena import Arena, Stored
from benchmarks.asking import GO, JETRUNNER, NATS_PY
from benchmarks.clients import (
    ALL,
    DEFAULT,
    OFF,
    WIDE,
    asking,
    faststream,
    golang,
    jetrunner,
    nats_py,
    natsio,
)
from benchmarks.contender import Contender, Skipped

Found = list[Contender | Skipped]

FEW = 10
"""What takes long gets so many times fewer messages: its rate is what is asked, not patience."""
KEYS = 10_000
BATCH = 500
BATCHED_KEYS = 100


def plain(arena: Arena) -> Stored:
    return arena.stored("orders")


def usual(arena: Arena) -> Stored:
    return arena.stored("usual", headers=True)


def throughput(arena: Arena) -> Found:
    stored = plain(arena)
    return [
        nats_py(arena, stored, f"window {WIDE}"),
        jetrunner(arena, stored, f"concurrency {WIDE}"),
        natsio(arena, stored),
        golang(arena, stored),
        faststream(arena, arena.stored("few", part=FEW)),
    ]


def real(arena: Arena) -> Found:
    stored = usual(arena)
    return [
        nats_py(arena, stored, f"window {WIDE}"),
        jetrunner(arena, stored, f"concurrency {WIDE}", handler="real", tracing=DEFAULT),
        jetrunner(arena, stored, "default concurrency", handler="real", tracing=DEFAULT, concurrency=None),
        natsio(arena, stored),
        faststream(arena, arena.stored("usualfew", part=FEW, headers=True), "real"),
    ]


def real_outputs(arena: Arena) -> Found:
    stored = usual(arena)
    task: dict[str, Any] = {"handler": "real", "output": True, "tracing": DEFAULT}
    return [
        nats_py(arena, stored, "publish_async", "publish_async"),
        jetrunner(arena, stored, f"concurrency {WIDE}", **task),
        jetrunner(arena, stored, "default concurrency", concurrency=None, **task),
    ]


def outputs(arena: Arena) -> Found:
    stored = plain(arena)
    return [
        nats_py(arena, stored, "publish_async", "publish_async"),
        nats_py(arena, stored, "publish in 64 tasks", "publish"),
        jetrunner(arena, stored, f"concurrency {WIDE}", output=True),
        jetrunner(arena, stored, "default concurrency", output=True, concurrency=None),
    ]


def default(arena: Arena) -> Found:
    found: Found = []
    for name, stored, handler, tracing in (
        ("no-op", plain(arena), "noop", OFF),
        ("real messages", usual(arena), "real", DEFAULT),
    ):
        task: dict[str, Any] = {"handler": handler, "tracing": tracing}
        found += [
            jetrunner(arena, stored, f"{name}, concurrency {WIDE}", base=True, **task),
            jetrunner(arena, stored, f"{name}, default concurrency", concurrency=None, **task),
        ]
    return found


def tracing(arena: Arena) -> Found:
    stored = plain(arena)
    return [
        jetrunner(arena, stored, f"no-op, {OFF}", base=True),
        jetrunner(arena, stored, f"no-op, {DEFAULT}", tracing=DEFAULT),
        jetrunner(arena, stored, f"no-op, {ALL}", tracing=ALL),
        jetrunner(arena, stored, f"an output each, {OFF}", output=True, base=True),
        jetrunner(arena, stored, f"an output each, {DEFAULT}", output=True, tracing=DEFAULT),
    ]


def traced(arena: Arena) -> Found:
    found: Found = []
    stored, few = plain(arena), arena.stored("few", part=2 * FEW)
    for at, held, name, handler in ((0, stored, "no-op", "noop"), (100, few, "computes 0.1 ms", "compute")):
        found += [
            jetrunner(
                arena, held, f"{name}, {traces}", handler=handler, tracing=traces, base=traces == OFF, at=at
            )
            for traces in (OFF, DEFAULT, ALL)
        ]
        found += [
            faststream(arena, few, handler, name=f"{name}, {told}", tracing=traces, at=at)
            for told, traces in ((OFF, OFF), ("its OpenTelemetry middleware", ALL))
        ]
    return found


def ordered(arena: Arena) -> Found:
    found: Found = []
    for shards in (8, 32):
        stored = arena.stored(f"of{shards}", keys=KEYS, shards=shards)
        found += [
            jetrunner(arena, stored, f"{shards} shards, no order", base=True),
            jetrunner(arena, stored, f"{shards} shards, ordered_by", shards=shards),
        ]
    return found


def work(arena: Arena) -> Found:
    found: Found = []
    stored = arena.stored("work", part=FEW // 2, keys=KEYS, shards=8)
    few = arena.stored("workfew", part=FEW, keys=KEYS, shards=8)
    for name, held, handler in (
        ("computes 0.1 ms", few, "compute"),
        ("awaits 1 ms", stored, "await_1"),
        ("awaits 10 ms", few, "await_10"),
    ):
        found += [
            jetrunner(arena, held, f"{name}, no order", handler=handler, base=True),
            jetrunner(arena, held, f"{name}, ordered_by", handler=handler, shards=8),
            jetrunner(arena, held, f"{name}, default concurrency", handler=handler, concurrency=None),
        ]
    return found


def hot_key(arena: Arena) -> Found:
    stored = arena.stored("hot", part=FEW, keys=1, shards=8)
    return [
        nats_py(arena, stored, "max_ack_pending 1", max_ack_pending=1),
        jetrunner(arena, stored, "ordered_by", shards=8),
    ]


def batches(arena: Arena) -> Found:
    stored = usual(arena)
    held = arena.stored("batched", keys=BATCHED_KEYS, shards=8, headers=True)
    task: dict[str, Any] = {"handler": "real_batch", "tracing": DEFAULT, "batch": BATCH, "concurrency": None}
    return [
        jetrunner(
            arena, stored, f"one by one, concurrency {WIDE}", handler="real", tracing=DEFAULT, base=True
        ),
        jetrunner(arena, stored, f"batch {BATCH}", **task),
        faststream(arena, arena.stored("usualfew", part=FEW, headers=True), "batch", BATCH),
        jetrunner(arena, held, "ordered, one by one", handler="real", tracing=DEFAULT, shards=8, base=True),
        jetrunner(arena, held, f"ordered, batch {BATCH}", shards=8, **task),
        jetrunner(arena, held, f"ordered, batch {BATCH} by shard", shards=8, batch_by="shard", **task),
    ]


def requests(arena: Arena) -> Found:
    return [
        asking(arena, kind, in_flight, part)
        for in_flight, part in ((1, FEW), (64, 2), (1000, 2))
        for kind in (NATS_PY, GO, JETRUNNER)
    ]
