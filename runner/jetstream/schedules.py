"""Schedules on the server: each is a message in our own stream, and the server makes a message of it for each firing (ADR-51).

Rule 1: a schedule is written only if it differs, and by compare-and-set: writing an `@every` restarts its count (measured on 2.15).
Rule 2: a schedule has no message id: one that was removed and is wanted again within 15 minutes would count as a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from msgspec import Struct

from runner.core import cron, firing, header, identity
from runner.core.cron import Schedule
from runner.errors import JetrunnerError, NoResponders, NoStream, Outdated, Unconfirmed
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.messages import leader_message, purge, subjects, swap
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.publisher import PubAck, in_doubt
from runner.jetstream.server import release, until_led

SERVER = (2, 14)
"""The first nats-server that repeats a schedule; older ones take only `@at`."""
EXPRESSION = "Nats-Schedule"
ZONE = "Nats-Schedule-Time-Zone"
TARGET = "Nats-Schedule-Target"
LIFETIME = "Nats-Schedule-TTL"
STAYS = ("Nats-TTL", "never")
"""Without this header, the operator's `max_age` of the stream would remove the schedule."""
COMPARED = (EXPRESSION, ZONE, TARGET, LIFETIME, firing.WRITTEN)


class StandingSchedule(Struct, frozen=True):
    """A schedule on the server."""

    function: str
    headers: dict[str, str]
    """The headers that say what it does."""
    sequence: int
    """The sequence of its message; 0: there is none."""
    stored_ns: int = 0

    @property
    def written(self) -> str:
        """The schedule as the user wrote it, with its time zone."""
        return self.headers.get(firing.WRITTEN) or self.headers.get(EXPRESSION, "")


def headers_of(project: str, function: str, schedule: Schedule) -> dict[str, str]:
    """The headers of a schedule's message."""
    found = {
        EXPRESSION: schedule.wire,
        TARGET: identity.tick_subject(project, function),
        LIFETIME: f"{schedule.lifetime}s",
        firing.WRITTEN: schedule.line,
    }
    if not schedule.every:  # the server refuses a time zone with `@every`
        found[ZONE] = schedule.timezone
    return found


def require_server(connection: Connection, functions: list[str]) -> None:
    """Raise a clear error if functions have schedules and the server is too old for them."""
    version = connection.server_version
    if functions and release(version) < SERVER:
        needed = ".".join(map(str, SERVER))
        raise Outdated(
            f"nats-server {version or 'of unknown version'} is too old: @cron ({', '.join(functions)}) needs {needed}",
            hint=f"upgrade nats-server to {needed} or newer",
        )


async def standing(connection: Connection, project: str, function: str) -> StandingSchedule:
    """A function's schedule, read from the stream's leader. Raises ServerError."""
    subject = identity.schedule_subject(project, function)
    found = await leader_message(connection, AGAIN, {"last_by_subj": subject}, codes.NOTHING_STORED)
    if found is None:
        return StandingSchedule(function, {}, 0)
    headers = header.parse(found.header or b"")
    told = {name: headers[name] for name in COMPARED if name in headers}
    return StandingSchedule(function, told, found.sequence, found.stored_ns)


async def functions_of(connection: Connection, project: str) -> list[str]:
    """The functions of a project that have a schedule on the server."""
    pattern = identity.schedule_subject(project, "*")
    return sorted([subject.rpartition(".")[2] async for subject, _ in subjects(connection, AGAIN, pattern)])


async def write(
    connection: Connection, project: str, before: StandingSchedule, headers: dict[str, str]
) -> bool:
    """Replace the schedule that was read; False if another was written since.

    Raises ServerError if the server does not take it.
    """
    subject = identity.schedule_subject(project, before.function)
    pairs = [*headers.items(), STAYS]
    return await swap(connection, subject, b"", before.sequence, pairs) is not None


async def remove(connection: Connection, project: str, function: str) -> None:
    """Remove a function's schedule, if there is one. Stored firings stay. Raises ServerError."""
    await purge(connection, AGAIN, identity.schedule_subject(project, function))


async def next_firing(
    connection: Connection, project: str, there: StandingSchedule, now: datetime
) -> datetime | None:
    """When the server fires a schedule next, as far as it tells. Raises ServerError."""
    try:
        schedule = told(there)
    except ValueError:  # it was written by another program
        return None
    if not schedule.every:
        return schedule.after(now)
    last = await leader_message(
        connection,
        AGAIN,
        {"last_by_subj": identity.tick_subject(project, there.function)},
        codes.NOTHING_STORED,
    )
    since = there.stored_ns / 1e9
    if last is not None and last.stored_ns > there.stored_ns:
        since = firing.due(schedule, header.parse(last.header or b""), last.stored_ns).timestamp()
    passed = max(0.0, now.timestamp() - since) // schedule.every
    return datetime.fromtimestamp(since + (passed + 1) * schedule.every, UTC)


def told(there: StandingSchedule) -> Schedule:
    """Read the schedule on the server. Raises ValueError if it is none of ours."""
    expression = there.headers.get(EXPRESSION, "")
    if not expression.startswith(cron.EVERY):
        seconds, _, expression = expression.partition(" ")
        if seconds != "0":
            raise ValueError(f"{there.written!r} fires by the second")
    return cron.parse(expression, there.headers.get(ZONE) or "UTC")


async def fire(
    connection: Connection, project: str, function: str, pairs: Iterable[tuple[str, str]] = ()
) -> PubAck:
    """Store a firing that is due now, as the server would; `pairs` are additional headers. Raises JetrunnerError.

    A stream without a leader is waited for: nothing has answered, so the firing is not stored.
    """
    now = datetime.fromtimestamp(connection.clock.now(), UTC)
    subject = identity.tick_subject(project, function)
    publish = partial(connection.publisher.publish, subject, b"", [(firing.DUE, now.isoformat()), *pairs])
    try:
        return await until_led(connection, AGAIN, subject, publish)
    except NoResponders:
        raise JetrunnerError(
            f"the server has no place for firings of {function} yet: nothing captures {subject}",
            hint="runner apply makes the schedules, and so does runner run",
        ) from None
    except (NoStream, Unconfirmed) as error:
        raise in_doubt(error) from None
