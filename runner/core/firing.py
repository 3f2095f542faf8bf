"""Firings of a schedule: which of the server's messages run the function, and when each was due.

Rule 1: a firing is identified by the time of the next firing, not by its message. A server that was killed fires it again under
        another sequence (measured on 2.15, 5 of 5).
Rule 2: a firing that was started is run to its end, whatever has come since.
Rule 3: firings that came due while an earlier one ran are skipped. Of those that came due while no instance ran, only the last one
        runs.
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
"""The server's header: when the firing after this one is due."""
WRITTEN = "Jetrunner-Cron"
"""A header with the schedule as the user wrote it, and its time zone; the server copies the header into each firing."""
DUE = "Jetrunner-Scheduled"
"""A header that says when a firing was due that the server did not make."""
KEPT = 128
"""How many firings are remembered."""
LATE_SECONDS = 60.0
"""A firing that is older than this and was not started does not run if there is a later one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Firing: TypeAlias = Annotated[str, Meta(max_length=1_024)]


class FiringRecord(Struct, frozen=True):
    """What the instances know of a function's firings."""

    started: Annotated[dict[Firing, Count], Meta(max_length=4 * KEPT)] = {}
    """The firings that were started, the oldest first, each with the sequence of its message."""
    passed: Count = 0
    """A firing that was not started is skipped if its sequence is at most this, and it was stored at `passed_ns` or before."""
    passed_ns: Count = 0
    """In nanoseconds of Unix time: a stream that was made again counts its messages from 1."""
    forgotten: Count = 0
    """The highest sequence of started firings that are no longer remembered; such a message may still wait for its retry."""


NONE = FiringRecord()
decode = checked.json(FiringRecord)
encode = msgspec.json.encode


class Tick(Struct, frozen=True):
    """A message that the server made by a schedule."""

    firing: str
    """The firing that the message is for; empty when a user has fired the function."""
    sequence: int
    stored_ns: int = 0
    age: float = 0.0
    """Seconds since the message was stored."""
    later: bool = False
    """Whether a later message is stored."""
    again: bool = False
    """Whether the message was delivered before."""
    repeated: bool = False
    """Whether the schedule fires for the second time in an hour that the clock goes through twice."""


class StartFiring(Struct, frozen=True):
    """The firing runs; `record` is written first. None: the firing is on record already, or needs no record."""

    record: FiringRecord | None = None


class Pass(Struct, frozen=True):
    """The firing does not run."""

    why: str


def decide(record: FiringRecord, tick: Tick) -> StartFiring | Pass:
    """Tell whether a firing runs."""
    if not tick.firing:
        return StartFiring()
    before = record.started.get(tick.firing)
    if before is not None:
        return StartFiring() if before == tick.sequence else Pass(f"message {before} was the same firing")
    if tick.repeated:
        return Pass("the clock goes through this hour a second time")
    if tick.again and tick.sequence <= record.forgotten:
        return StartFiring()
    if tick.sequence <= record.passed and tick.stored_ns <= record.passed_ns:
        return Pass("it was due while an earlier one ran, or while no instance did")
    if tick.later and tick.age > LATE_SECONDS:
        return Pass(f"it is {tick.age:.0f} s old, and there is a later one")
    started = [*record.started.items(), (tick.firing, tick.sequence)]
    forgotten = max([record.forgotten, *(sequence for _, sequence in started[:-KEPT])])
    return StartFiring(structs.replace(record, started=dict(started[-KEPT:]), forgotten=forgotten))


def passing(record: FiringRecord, through: int, stored_ns: int) -> FiringRecord:
    """Make the record that skips every firing up to a sequence and a time that was not started."""
    passed_ns = max(record.passed_ns, stored_ns)
    return structs.replace(record, passed=max(record.passed, through), passed_ns=passed_ns)


def firing_of(headers: Mapping[str, str]) -> str:
    """Which firing a message is for: its next time and its schedule, because a changed schedule may come to the same time."""
    following, written = headers.get(NEXT, ""), headers.get(WRITTEN, "")
    return f"{following} {written}"[:1_024] if following and checked.is_line(following + written) else ""


def due(schedule: Schedule, headers: Mapping[str, str], stored_ns: int, *, twice: bool = False) -> datetime:
    """When a firing was due, in the time zone of its schedule; `stored_ns` is when its message was stored.

    The message may be of another release's schedule, which runs beside this release or ran before it.
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
    """Whether the clock goes through the firing's hour for the second time; its schedule has fired in the first passage."""
    schedule = _made_by(headers) or schedule
    return schedule.fixed_hours and due(schedule, headers, stored_ns, twice=True).fold == 1


def _made_by(headers: Mapping[str, str]) -> Schedule | None:
    """The schedule by which the server made a firing, from the firing's own header."""
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
