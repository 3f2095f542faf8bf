"""Firings of a schedule: which of the messages that the server made of it runs, and when it was due.

Rule 1: a firing is told by the time of the one after it, not by its message: a server that was killed fires it again
        under another sequence (measured on 2.15, 5 of 5).
Rule 2: what was started once is run to its end, whatever has come since.
Rule 3: what came due while an earlier firing ran, or while no instance did, is passed over, all but the last of the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct, structs

from runner.core import checked, cron
from runner.core.checked import Count
from runner.core.cron import Schedule

NEXT = "Nats-Schedule-Next"
"""When the firing after this one is due: the server's."""
WRITTEN = "Jetrunner-Cron"
"""The schedule as the user wrote it, with its time zone: the server copies it into each firing."""
DUE = "Jetrunner-Scheduled"
"""When a firing was due that was not made by the server."""
KEPT = 128
"""Firings that are remembered."""
LATE_SECONDS = 60.0
"""A firing that is older than this, and was not started, does not run where there is a later one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Firing: TypeAlias = Annotated[str, Meta(max_length=1_024)]


class Record(Struct, frozen=True):
    """What the instances know of a function's firings."""

    started: Annotated[dict[Firing, Count], Meta(max_length=4 * KEPT)] = {}
    """The sequence of the message under which each was started, the oldest first."""
    passed: Count = 0
    """What was stored up to this sequence, and up to `passed_ns`, and was not started, is passed over."""
    passed_ns: Count = 0
    """In nanoseconds of Unix time: a stream that was made again counts its messages from 1."""
    forgotten: Count = 0
    """The highest sequence of those that were started and are not remembered any more: they may wait for their retry still."""


NONE = Record()
decode = checked.json(Record)
encode = msgspec.json.encode


class Tick(Struct, frozen=True):
    """A message that the server made of a schedule."""

    firing: str
    """Which firing it is of; empty for one that a user has fired."""
    sequence: int
    stored_ns: int = 0
    age: float = 0.0
    """Seconds since it was stored."""
    later: bool = False
    """Whether a later one is stored."""
    again: bool = False
    """Whether it was delivered before."""
    repeated: bool = False
    """Whether it fires a second time in an hour that the clock goes through twice."""


class Start(Struct, frozen=True):
    """It runs; the record is written first, unless it says so already."""

    record: Record | None = None


class Pass(Struct, frozen=True):
    """It does not run."""

    why: str


def decide(record: Record, tick: Tick) -> Start | Pass:
    """Tell whether a firing runs."""
    if not tick.firing:
        return Start()
    before = record.started.get(tick.firing)
    if before is not None:
        return Start() if before == tick.sequence else Pass(f"message {before} was the same firing")
    if tick.repeated:
        return Pass("the clock goes through this hour a second time")
    if tick.again and tick.sequence <= record.forgotten:
        return Start()
    if tick.sequence <= record.passed and tick.stored_ns <= record.passed_ns:
        return Pass("it was due while an earlier one ran, or while no instance did")
    if tick.later and tick.age > LATE_SECONDS:
        return Pass(f"it is {tick.age:.0f} s old, and there is a later one")
    started = [*record.started.items(), (tick.firing, tick.sequence)]
    forgotten = max([record.forgotten, *(sequence for _, sequence in started[:-KEPT])])
    return Start(structs.replace(record, started=dict(started[-KEPT:]), forgotten=forgotten))


def passing(record: Record, through: int, stored_ns: int) -> Record:
    """The record by which everything up to a sequence, and a time, is passed over that was not started."""
    passed_ns = max(record.passed_ns, stored_ns)
    return structs.replace(record, passed=max(record.passed, through), passed_ns=passed_ns)


def firing_of(headers: Mapping[str, str]) -> str:
    """Which firing a message is of: a changed schedule may come to the same time as the one before it."""
    following, written = headers.get(NEXT, ""), headers.get(WRITTEN, "")
    return f"{following} {written}"[:1_024] if following and checked.is_line(following + written) else ""


def due(schedule: Schedule, headers: Mapping[str, str], stored_ns: int, *, twice: bool = False) -> datetime:
    """When a firing was due, in the time zone of its schedule; `stored_ns` is when its message was stored.

    It may be of another schedule than the function's own: of another release's, which runs beside this one or ran before it.
    """
    schedule = _made_by(headers) or schedule
    stored = _EPOCH + timedelta(microseconds=stored_ns // 1_000)
    if (told := _time(headers.get(DUE, ""))) is not None:
        return told.astimezone(schedule.zone)
    following = _time(headers.get(NEXT, ""))
    if following is None and schedule.every:
        return stored.replace(microsecond=0).astimezone(schedule.zone)
    found = schedule.before(following or stored + timedelta(microseconds=1), twice=twice)
    return (found or stored).astimezone(schedule.zone)


def is_repeated(schedule: Schedule, headers: Mapping[str, str], stored_ns: int) -> bool:
    """Whether a firing comes in the second passage of an hour that its schedule names: it has fired in the first."""
    schedule = _made_by(headers) or schedule
    return schedule.fixed_hours and due(schedule, headers, stored_ns, twice=True).fold == 1


def _made_by(headers: Mapping[str, str]) -> Schedule | None:
    """The schedule that the server has made a firing of, as the firing says itself."""
    return _read(headers.get(WRITTEN, ""))


@lru_cache(maxsize=64)
def _read(written: str) -> Schedule | None:
    try:
        return cron.read(written) if written else None
    except ValueError:
        return None


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None and 1970 <= found.year < 9000 else None
