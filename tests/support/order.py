"""The order checker: reads what handlers of many processes wrote into one journal, and finds what was out of order.

A line is one write to a file opened with O_APPEND, so the lines of all processes stand in the order of what happened:
`S|D|F <key> <sequence> <pid> <attempt> <attempts> <time> <stamp>` when a handler starts, is done, has failed, where the
stamp is the time at which the stream stored the message, in microseconds: a sequence alone may come again.
`K <pid>` when a process was killed, `T <pid>` when a frozen one is let go on, `R` when the server is about to come back
with less than it had.

Rule 1: a message starts when all before it of its key were done, or had failed for the last time.
Rule 2: it may run again, after a crash, but not after a later one of its key was done.
Rule 3: one whose process was frozen between the decision to start it and its first line may write that line late. After an
    `R` it may be of before that: then the key has not begun again with it.
Rule 4: after `R` a key may begin again at any message that was done before, and goes on from there without a gap. What
    the stream has no more may have run or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SOURCE = """
import asyncio
import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from runner import Context, RetryPolicy, consume

JOURNAL = os.open(Path(__file__).parents[1] / "order.log", os.O_APPEND | os.O_WRONLY | os.O_CREAT)


class Entry(Struct):
    number: int


class Posted(Struct):
    sequence: int
    stamp: int


EPOCH = datetime.fromtimestamp(0, UTC)


@consume("ledger.{account}.posted", %(output)sordered_by="account",
         retry=RetryPolicy.fixed(0.02, attempts=%(attempts)d), concurrency=%(concurrency)d)
async def post(entry: Entry, account: str, ctx: Context) -> Posted | None:
    stamp = (ctx.timestamp - EPOCH) // timedelta(microseconds=1)

    def note(what: str) -> None:
        told = f"{account} {ctx.sequence} {os.getpid()} {ctx.attempt} {ctx.attempts} {time.time():.6f} {stamp}"
        os.write(JOURNAL, f"{what} {told}\\n".encode())

    note("S")
    await asyncio.sleep(random.random() * %(pause)g)
    if random.random() < %(failing)g:
        note("F")
        raise ValueError("bad luck")
    note("D")
    return %(returned)s
"""


def source(
    *,
    failing: float = 0.05,
    pause: float = 0.01,
    attempts: int = 3,
    concurrency: int = 64,
    output: bool = True,
) -> str:
    """The ordered function whose handlers write the journal `order.log` in the project's folder."""
    return SOURCE % {
        "failing": failing,
        "pause": pause,
        "attempts": attempts,
        "concurrency": concurrency,
        "output": 'output="balances.{account}.changed", ' if output else "",
        "returned": "Posted(ctx.sequence, stamp)" if output else "None",
    }


class Line(NamedTuple):
    """One line of a handler."""

    kind: str
    key: str
    sequence: int
    pid: str
    attempt: int
    attempts: int
    time: float
    stamp: int

    @staticmethod
    def read(text: str) -> Line:
        kind, key, sequence, pid, attempt, attempts, moment, stamp = text.split()
        return Line(kind, key, int(sequence), pid, int(attempt), int(attempts), float(moment), int(stamp))


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
    overlaps: int = 0
    """Starts while another living process had a message of the key in work: it was cut off or frozen, if all is well."""
    bygone: int = 0
    """Starts of messages that the stream has no more."""

    def __str__(self) -> str:
        bygone = f"{self.bygone} starts of what the server forgot, " if self.bygone else ""
        return (
            f"{self.done} done, {self.dead} dead letters, {self.again} done more than once, "
            f"{self.behind} started again behind a start, {self.frozen} frozen in the act, {bygone}"
            f"{self.forgotten} failures unrecorded, {self.overlaps} overlaps, {len(self.problems)} problems"
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
        """The highest place that was settled since the server last came back with less."""
        self.started = -1
        self.running: dict[str, int] = {}
        """The processes that have a message in work, and how often the server had come back with less when it began."""
        self.histories = 0
        self.late: tuple[int, int] | None = None
        """The last start of rule 3 since the server came back with less, and the highest place settled before it."""

    def settle(self, place: int, *, history: int) -> None:
        self.settled[place] = True
        if history == self.histories:
            self.highest = max(self.highest, place)
        while self.upto < len(self.settled) and self.settled[self.upto]:
            self.upto += 1

    def come_back(self) -> None:
        """The server has come back with less."""
        self.histories += 1
        self.highest = self.started = -1
        self.late = None

    def wrong(self, place: int) -> str:
        """What is wrong with a start; nothing if it is in order."""
        if place > self.upto:
            return f"started before {self.sequences[self.upto]} was done"
        if place < self.highest:
            return f"started after {self.sequences[self.highest]} was done"
        if self.histories and -1 < self.highest < place - 1:
            return f"started without {self.sequences[self.highest + 1]}, which comes after what runs again"
        return ""


class Checker:
    """Reads a journal line by line."""

    def __init__(self, stored: Mapping[str, Sequence[int]], stamps: Mapping[int, int] | None) -> None:
        self.verdict = Verdict()
        self.keys = {key: Key(sequences) for key, sequences in stored.items()}
        self._stamps = stamps
        self._dones: Counter[int] = Counter()
        self._failures: Counter[int] = Counter()
        self._last_failure: set[int] = set()
        self._thawed: set[str] = set()

    def read(self, number: int, text: str) -> None:
        """Take the next line."""
        kind, *rest = text.split()
        match kind:
            case "T":
                self._thawed.add(rest[0])
            case "K":
                for key in self.keys.values():
                    key.running.pop(rest[0], None)
            case "R":
                for key in self.keys.values():
                    key.come_back()
            case "S" | "D" | "F":
                self._handler(Line.read(text), f"line {number}: {text.strip()}")

    def _handler(self, line: Line, told: str) -> None:
        first_after_thaw = line.pid in self._thawed
        self._thawed.discard(line.pid)
        if self._stamps is not None and self._stamps.get(line.sequence) != line.stamp:
            self.verdict.bygone += line.kind == "S"
        elif line.kind == "S":
            self._start(line, told, first_after_thaw=first_after_thaw)
        else:
            self._end(line)

    def _start(self, line: Line, told: str, *, first_after_thaw: bool) -> None:
        key = self.keys[line.key]
        place = key.places[line.sequence]
        problem = key.wrong(place)
        if problem and key.late is not None and key.late[0] == key.highest:
            key.highest, key.late = key.late[1], None
            problem = key.wrong(place)
        if first_after_thaw and key.histories:
            key.late = place, key.highest
        if problem and first_after_thaw:
            self.verdict.frozen += 1
        elif problem:
            self.verdict.problems.append(f"{told}: {problem}")
        self.verdict.behind += place < key.started
        self.verdict.overlaps += bool(key.running.keys() - {line.pid})
        key.started = max(key.started, place)
        key.running[line.pid] = key.histories
        failures = self._failures[line.sequence]
        if line.attempt > 1 + failures:
            self.verdict.problems.append(f"{told}: after {failures} failures")
        self.verdict.forgotten += line.attempt < 1 + failures

    def _end(self, line: Line) -> None:
        key = self.keys[line.key]
        history = key.running.pop(line.pid, key.histories)
        if line.kind == "D":
            self._dones[line.sequence] += 1
        else:
            self._failures[line.sequence] += 1
            if line.attempt < line.attempts:
                return
            self._last_failure.add(line.sequence)
        key.settle(key.places[line.sequence], history=history)

    def end(self) -> Verdict:
        """The journal ends: what has not been done by now is lost."""
        for name, key in self.keys.items():
            for place in range(key.upto, len(key.settled)):
                if not key.settled[place]:
                    self.verdict.problems.append(f"{name} {key.sequences[place]}: lost")
        self.verdict.done = len(self._dones)
        self.verdict.again = sum(count > 1 for count in self._dones.values())
        self.verdict.dead = len(self._last_failure - self._dones.keys())
        return self.verdict


def check(
    lines: Iterable[str], stored: Mapping[str, Sequence[int]], stamps: Mapping[int, int] | None = None
) -> Verdict:
    """Check a journal against what stands in the stream: the sequences of each key, ascending.

    With `stamps`, of each sequence, a line about another message of that sequence is about one that is gone.
    """
    checker = Checker(stored, stamps)
    for number, text in enumerate(lines, 1):
        checker.read(number, text)
    return checker.end()


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
