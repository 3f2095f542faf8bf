"""The order checker: reads what handlers of many processes wrote into one journal, and finds what was out of order.

A line is one write to a file opened with O_APPEND, so the lines of all processes stand in the order of what happened:
`S|D|F <key> <sequence> <pid> <attempt> <attempts> <time>` when a handler starts, is done, has failed, and
`T <pid>` when a frozen process is let go on.

Rule 1: a message starts when all before it of its key were done, or had failed for the last time.
Rule 2: it may run again, after a crash, but not after a later one of its key was done.
Rule 3: one whose process was frozen between the decision to start it and its first line may write that line late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = """
import asyncio
import os
import random
import time
from pathlib import Path

from msgspec import Struct

from runner import Context, RetryPolicy, consume

JOURNAL = os.open(Path(__file__).parents[1] / "order.log", os.O_APPEND | os.O_WRONLY | os.O_CREAT)


class Entry(Struct):
    number: int


class Posted(Struct):
    sequence: int


@consume("ledger.{account}.posted", output="balances.{account}.changed", ordered_by="account",
         retry=RetryPolicy.fixed(0.02, attempts=%(attempts)d), concurrency=%(concurrency)d)
async def post(entry: Entry, account: str, ctx: Context) -> Posted:
    told = f"{account} {ctx.sequence} {os.getpid()} {ctx.attempt} {ctx.attempts}"
    os.write(JOURNAL, f"S {told} {time.time():.6f}\\n".encode())
    await asyncio.sleep(random.random() * %(pause)g)
    if random.random() < %(failing)g:
        os.write(JOURNAL, f"F {told} {time.time():.6f}\\n".encode())
        raise ValueError("bad luck")
    os.write(JOURNAL, f"D {told} {time.time():.6f}\\n".encode())
    return Posted(ctx.sequence)
"""


def source(*, failing: float = 0.05, pause: float = 0.01, attempts: int = 3, concurrency: int = 64) -> str:
    """The ordered function whose handlers write the journal `order.log` in the project's folder."""
    return SOURCE % {"failing": failing, "pause": pause, "attempts": attempts, "concurrency": concurrency}


@dataclass
class Verdict:
    """What the checker has found; the journal is in order when `problems` is empty."""

    problems: list[str] = field(default_factory=list)
    done: int = 0
    dead: int = 0
    """Messages that failed for the last time and never succeeded."""
    again: int = 0
    """Messages that were done more than once."""
    behind: int = 0
    """Starts of a message when a later one of its key had started, and had not been done: its process died."""
    frozen: int = 0
    """Starts of rule 3."""
    forgotten: int = 0
    """Starts whose attempt knows fewer failures than there were: the process died before it could record one."""

    def __str__(self) -> str:
        return (
            f"{self.done} done, {self.dead} dead letters, {self.again} done more than once, "
            f"{self.behind} started again behind a start, {self.frozen} frozen in the act, "
            f"{self.forgotten} failures unrecorded, {len(self.problems)} problems"
        )


class Key:
    """One key's messages by their place in the stream."""

    def __init__(self, sequences: Sequence[int]) -> None:
        self.sequences = sequences
        self.places = {sequence: place for place, sequence in enumerate(sequences)}
        self.settled = [False] * len(sequences)
        self.upto = 0
        """Every place below is settled."""
        self.highest = -1
        """The highest place that is settled."""
        self.started = -1

    def settle(self, place: int) -> None:
        self.settled[place] = True
        self.highest = max(self.highest, place)
        while self.upto < len(self.settled) and self.settled[self.upto]:
            self.upto += 1


def check(lines: Iterable[str], stored: Mapping[str, Sequence[int]]) -> Verdict:
    """Check a journal against what stands in the stream: the sequences of each key, ascending."""
    verdict = Verdict()
    keys = {key: Key(sequences) for key, sequences in stored.items()}
    dones: Counter[int] = Counter()
    failures: Counter[int] = Counter()
    last_failure: set[int] = set()
    thawed: set[str] = set()
    for number, line in enumerate(lines, 1):
        kind, name, *rest = line.split()
        if kind == "T":
            thawed.add(name)
            continue
        sequence, pid, attempt, attempts = int(rest[0]), rest[1], int(rest[2]), int(rest[3])
        key = keys[name]
        place = key.places[sequence]
        first_after_thaw = pid in thawed
        thawed.discard(pid)
        if kind == "S":
            problem = ""
            if place > key.upto:
                problem = f"started before {key.sequences[key.upto]} was done"
            elif place < key.highest:
                problem = f"started after {key.sequences[key.highest]} was done"
            if problem and first_after_thaw:
                verdict.frozen += 1
            elif problem:
                verdict.problems.append(f"line {number}: {line.strip()}: {problem}")
            verdict.behind += place < key.started
            key.started = max(key.started, place)
            if attempt > 1 + failures[sequence]:
                verdict.problems.append(f"line {number}: {line.strip()}: after {failures[sequence]} failures")
            verdict.forgotten += attempt < 1 + failures[sequence]
        elif kind == "D":
            dones[sequence] += 1
            key.settle(place)
        else:
            failures[sequence] += 1
            if attempt >= attempts:
                last_failure.add(sequence)
                key.settle(place)
    for name, key in keys.items():
        for place in range(key.upto, len(key.settled)):
            if not key.settled[place]:
                verdict.problems.append(f"{name} {key.sequences[place]}: lost")
    verdict.done = len(dones)
    verdict.again = sum(count > 1 for count in dones.values())
    verdict.dead = len(last_failure - dones.keys())
    return verdict


def check_outputs(
    outputs: Iterable[tuple[str, int]], stored: Mapping[str, Sequence[int]], dead: set[int]
) -> list[str]:
    """Check the output stream: every message's output once and in its key's order; `dead` may have none."""
    problems: list[str] = []
    seen: dict[str, list[int]] = {key: [] for key in stored}
    for key, sequence in outputs:
        if seen[key] and sequence <= seen[key][-1]:
            problems.append(f"output of {key} {sequence} stands behind that of {seen[key][-1]}")
        seen[key].append(sequence)
    for key, sequences in stored.items():
        missing = set(sequences) - set(seen[key]) - dead
        problems += [f"{key} {sequence}: its output is missing" for sequence in sorted(missing)]
    return problems


def story(journal: Path, problems: Sequence[str], *, most: int = 10) -> str:
    """The first problems, each with the journal's lines about its key around it."""
    lines = journal.read_text().splitlines()
    told: list[str] = []
    for problem in problems[:most]:
        told.append(f"* {problem}")
        if not problem.startswith("line "):
            continue
        at = int(problem.split()[1].rstrip(":")) - 1
        key = lines[at].split()[1]
        about = [(n, line) for n, line in enumerate(lines, 1) if line.split()[1] == key]
        place = next(i for i, (n, _) in enumerate(about) if n == at + 1)
        told += [f"    {n}: {line}" for n, line in about[max(0, place - 12) : place + 6]]
    if len(problems) > most:
        told.append(f"… and {len(problems) - most} more")
    return "\n".join(told)
