"""Split events that wait for parts. For each, a message in `JETRUNNER` is scheduled for the end of its wait, until it is joined."""

from __future__ import annotations

from msgspec import Struct

from runner.core import identity
from runner.jetstream.connection import Connection
from runner.jetstream.gathered import ended_batch
from runner.jetstream.messages import count_subjects, leader_message, one_by_one, subjects
from runner.jetstream.ownstreams import AGAIN, GATHER

_FUNCTION = identity.expiry_subject("", "*", "").split(".").index("*")
_BATCH = identity.event_subject("", "", "*").split(".").index("*")


class Open(Struct, frozen=True):
    """The open events of one function."""

    events: int
    oldest: float
    """Seconds since the first part of the oldest event came."""


async def count(connection: Connection, project: str, function: str) -> int:
    """How many events of a function wait. Raises ServerError."""
    return await count_subjects(connection, AGAIN, identity.expiry_subject(project, function, "*"))


async def waiting(connection: Connection, project: str) -> dict[str, Open]:
    """The open events of a project's functions that have any, by function. Expensive if there are many. Raises ServerError."""
    counts: dict[str, int] = {}
    async for subject, _ in subjects(connection, AGAIN, identity.expiry_subject(project, "*", "*")):
        function = subject.split(".")[_FUNCTION]
        counts[function] = counts.get(function, 0) + 1
    found: dict[str, Open] = {}
    for function, events in sorted(counts.items()):
        ask = {"seq": 1, "next_by_subj": identity.expiry_subject(project, function, "*")}
        if (first := await leader_message(connection, AGAIN, ask)) is not None:  # None: joined meanwhile
            found[function] = Open(events, max(0.0, connection.clock.now() - first.stored_ns / 1e9))
    return found


async def unscheduled(connection: Connection, project: str, function: str) -> list[str]:
    """The events of a function whose parts are stored, and whose end neither is scheduled nor has come. Raises ServerError.

    Events that were given up are among them. Expensive if there are many.
    """
    parts = identity.event_subject(project, function, "*.*.*")
    left = {subject.split(".")[_BATCH] async for subject, _ in subjects(connection, GATHER, parts)}
    if left:
        ends = identity.expiry_subject(project, function, "*")
        left -= {subject.rpartition(".")[2] async for subject, _ in subjects(connection, AGAIN, ends)}
    if left:  # read after the schedules: one may have fired meanwhile
        async for each in one_by_one(connection, AGAIN, identity.again_subject(project, function)):
            left.discard(ended_batch(each.header))
    return sorted(left)
