"""The order checker for batches: what handlers of many processes wrote into one journal, batch by batch.

A batch writes one line `S <key> <sequence> …` for each of its messages, all of them together, when it begins, and when it ends `D` for
each that was done and `F` for the first of a key that has failed: as in `order.py`, and with the same time in all lines of a call.

Rule 1: a batch has messages of a key as they stand in the stream, without a gap, and begins once all before them were
        done, or had failed for the last time.
Rule 2: messages may run again, after a crash: those of the last batch of their key in which something was done, and none before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from tests.support.order import Line

SOURCE = """
import asyncio
import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from runner import Context, PartialFailure, RetryPolicy, consume

JOURNAL = os.open(Path(__file__).parents[1] / "order.log", os.O_APPEND | os.O_WRONLY | os.O_CREAT)
EPOCH = datetime.fromtimestamp(0, UTC)


class Entry(Struct):
    number: int


class Posted(Struct):
    sequence: int
    stamp: int


@consume("ledger.{account}.posted", output="balances.{account}.changed", ordered_by="account",
         batch=20, linger=0.02, batch_by="BATCH_BY", retry=RetryPolicy.fixed(0.02, attempts=3), concurrency=8)
async def post(entries: list[Entry], account: list[str], ctx: Context) -> list[Posted]:
    began = time.time()

    def stamp(each) -> int:
        return (each.timestamp - EPOCH) // timedelta(microseconds=1)

    def note(what: str, places) -> None:
        lines = []
        for at in places:
            each = ctx.messages[at]
            told = f"{account[at]} {each.sequence} {os.getpid()} {each.attempt} {each.attempts} {began:.6f} {stamp(each)}"
            lines.append(f"{what} {told}\\n")
        os.write(JOURNAL, "".join(lines).encode())

    note("S", range(len(entries)))
    await asyncio.sleep(random.random() * 0.01)
    if len(entries) > 1 and random.random() < 0.05:
        raise OSError("the whole batch")
    failed = {}
    done = []
    for at, key in enumerate(account):
        if any(account[other] == key for other in failed):
            continue
        if random.random() < 0.02:
            failed[at] = ValueError("bad luck")
        else:
            done.append(at)
    note("D", done)
    note("F", failed)
    if failed:
        for at in done:
            await ctx.messages[at].publish(
                f"balances.{account[at]}.changed", Posted(ctx.messages[at].sequence, stamp(ctx.messages[at]))
            )
        raise PartialFailure(failed)
    return [Posted(each.sequence, stamp(each)) for each in ctx.messages]
"""


def source(batch_by: str) -> str:
    """The ordered function that takes batches."""
    return SOURCE.replace("BATCH_BY", batch_by)


class Found:
    """What the checker has found."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.sizes: Counter[int] = Counter()
        """How many messages the calls had, of each key."""
        self.again = 0
        """Messages that were done more than once."""
        self.done: set[int] = set()


def check(lines: Iterable[str], stored: Mapping[str, Sequence[int]]) -> Found:
    """Check a journal against what stands in the stream: the sequences of each key, ascending."""
    found = Found()
    places = {key: {each: at for at, each in enumerate(sequences)} for key, sequences in stored.items()}
    settled: dict[str, set[int]] = defaultdict(set)
    upto: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    calls: dict[tuple[str, str, float], int] = {}
    failures: Counter[int] = Counter()
    told = (Line.read(line) for line in lines if line[0] in "SDF")
    for (kind, pid, time), group in groupby(told, key=lambda line: (line.kind, line.pid, line.time)):
        by_key: dict[str, list[Line]] = {}
        for line in group:
            by_key.setdefault(line.key, []).append(line)
        for key, batch in by_key.items():
            here = [places[key][line.sequence] for line in batch]
            if kind == "S":
                calls[key, pid, time] = here[0]
                found.sizes[len(here)] += 1
                if here != [*range(here[0], here[0] + len(here))]:
                    found.problems.append(f"{key}: a batch of {here}, which has gaps")
                if here[0] > upto[key]:
                    found.problems.append(
                        f"{key}: a batch from {here[0]} on began before {upto[key]} was done"
                    )
                if here[0] < begun[key]:
                    found.problems.append(
                        f"{key}: a batch from {here[0]} on began after one from {begun[key]} on"
                    )
                found.problems += [
                    f"{key} {line.sequence}: attempt {line.attempt} after {failures[line.sequence]} failures"
                    for line in batch
                    if line.attempt > 1 + failures[line.sequence]
                ]
                continue
            begun[key] = calls[key, pid, time]
            for line, at in zip(batch, here, strict=True):
                if kind == "D":
                    found.again += line.sequence in found.done
                    found.done.add(line.sequence)
                else:
                    failures[line.sequence] += 1
                if kind == "D" or line.attempt >= line.attempts:
                    settled[key].add(at)
            while upto[key] in settled[key]:
                upto[key] += 1
    for key, sequences in stored.items():
        if upto[key] < len(sequences):
            found.problems.append(f"{key} {sequences[upto[key]]}: lost")
    return found
