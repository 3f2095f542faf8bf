"""The sections that show how cost grows: one of ours at several places on an axis."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.clients import WIDE, jetrunner, nats_py
from benchmarks.comparisons import FEW, KEYS, Found

PART = 4
"""Each place gets so many times fewer messages than a comparison."""
FUNCTIONS = 1, 10, 50, 200
SHARDS = 1, 8, 32, 128, 512
ONE_TO_MANY = 1, 10, 100, 1000, 10_000, 50_000
IN_FLIGHT = 1, 8, 64, 256, 1000, 4000
BYTES = 150, 1000, 10_000, 100_000, 1_000_000
BYTES_A_MESSAGE = 1000
"""Bodies fill a stream up to so many bytes for each message of a full run: larger ones are fewer."""
UNREAD = 16 << 20
"""Bytes that the bare loop asks for at most."""


def functions(arena: Arena) -> Found:
    found: Found = []
    for number in arena.places(FUNCTIONS):
        stored = arena.stored(f"functions{number}", part=PART, keys=number)
        found.append(jetrunner(arena, stored, f"functions: {number}", functions=number, at=number))
    return found


def shards(arena: Arena) -> Found:
    found: Found = []
    for number in arena.places(SHARDS):
        stored = arena.stored(f"shards{number}", part=PART, keys=KEYS, shards=number)
        found.append(jetrunner(arena, stored, f"shards: {number}", shards=number, at=number))
    return found


def keys(arena: Arena) -> Found:
    found: Found = []
    for number in arena.places(ONE_TO_MANY):
        stored = arena.stored(
            f"keys{number}", part=PART * (FEW // 2 if number == 1 else 1), keys=number, shards=8
        )
        found.append(jetrunner(arena, stored, f"keys: {number}", shards=8, at=number))
    return found


def in_flight(arena: Arena) -> Found:
    few, stored = arena.stored("flightfew", part=PART * FEW // 2), arena.stored("flight", part=PART)
    return [
        jetrunner(
            arena, few if number == 1 else stored, f"concurrency {number}", concurrency=number, at=number
        )
        for number in arena.places(IN_FLIGHT)
    ]


def body(arena: Arena) -> Found:
    found: Found = []
    for size in arena.places(BYTES):
        most = arena.messages * BYTES_A_MESSAGE // size
        # The server drops a client that has 64 MiB still to read, and the bare loop does not come back.
        window = max(2, min(WIDE, UNREAD // size))
        stored = arena.stored(f"body{size}", messages=max(FEW, min(arena.messages // PART, most)), size=size)
        found += [
            nats_py(arena, stored, f"{size:,} bytes", at=size, base=True, window=window),
            jetrunner(arena, stored, f"{size:,} bytes", at=size),
        ]
    return found
