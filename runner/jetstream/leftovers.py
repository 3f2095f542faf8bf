"""All that the server holds of one function, to remove it when the function does not come back.

Rule: durables are removed first. Without them no message of the function is read; if the removal stops early, it is done again.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from msgspec import Struct

from runner.core import identity
from runner.core.streams.plan import function_of
from runner.errors import PermissionDenied
from runner.jetstream import consumer
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import consumers_on, count, real_streams
from runner.jetstream.kv import KV
from runner.jetstream.messages import purge
from runner.jetstream.ownstreams import AGAIN, DEADLETTERS, ERRORS, GATHER, PARKED

KINDS = ("claim", "failures", "settled", "parked", "start")
"""A key of the bucket belongs to the function if it begins with one of these, the project and the function."""
PROJECT = "jetrunner.project"


class LeftDurable(Struct, frozen=True):
    """One durable of the function."""

    stream: str
    name: str
    unsettled: int
    """Messages that the durable has not settled."""


class Leftovers(Struct, frozen=True):
    """What the server holds of a function."""

    durables: tuple[LeftDurable, ...]
    parked: int
    dead_letters: int
    sent_back: int
    """Dead letters on their way back to the function."""
    keys: tuple[str, ...]
    """Keys of the bucket: floors, claims, its generation, failures, marks of keys, firings."""
    gathering: int = 0
    """Parts of events that the function has not joined."""
    scheduled: int = 0
    """Messages of its schedule: the schedule itself, and stored firings."""

    @property
    def nothing(self) -> bool:
        """Whether there is nothing at all."""
        return not (
            self.durables
            or self.parked
            or self.dead_letters
            or self.sent_back
            or self.keys
            or self.scheduled
            or self.gathering
        )

    @property
    def to_run(self) -> int:
        """Messages that the function would run if it came back, except for parked ones."""
        return sum(each.unsettled for each in self.durables)


class Forgetting:
    """Counts and removes what is left of a function."""

    def __init__(
        self, connection: Connection, project: str, function: str, taken: Collection[str] = ()
    ) -> None:
        """`taken` are durables that other functions have chosen (`durable=`): they stay."""
        self._connection = connection
        self._kv = KV(connection)
        self._project = project
        self._function = function
        self._taken = taken
        self._events = identity.event_subject(project, function, ">")
        self._schedule = (
            identity.expiry_subject(project, function, "*"),
            identity.schedule_subject(project, function),
            identity.tick_subject(project, function),
        )

    async def find(self) -> Leftovers:
        """What the server holds now. Raises ServerError."""
        durables = [
            LeftDurable(stream, info["name"], int(info["num_pending"]) + int(info["num_ack_pending"]))
            for stream in sorted(await real_streams(self._connection))
            for info in await consumers_on(self._connection, stream)
            if self._ours(info["name"], info["config"].get("metadata") or {})
        ]
        names = {each.name for each in durables}
        keys = await self._kv.keys(f"generation.{self._project}.{self._function}")
        keys += await self._kv.keys(identity.firings_key(self._project, self._function))
        for kind in KINDS:
            keys += await self._kv.keys(f"{kind}.{self._project}.{self._function}.>")
        for key in await self._kv.keys(f"floor.{self._project}.*.*"):
            durable = key.rpartition(".")[2]
            if durable in names or self._ours(durable, {}):
                keys.append(key)
        return Leftovers(
            tuple(durables),
            await count(self._connection, PARKED, identity.parked_subject(self._project, self._function)),
            await count(self._connection, DEADLETTERS, identity.dead_subject(self._project, self._function)),
            await count(self._connection, AGAIN, identity.again_subject(self._project, self._function)),
            tuple(sorted(keys)),
            await count(self._connection, GATHER, self._events),
            sum([await count(self._connection, AGAIN, subject) for subject in self._schedule]),
        )

    async def remove(self, found: Leftovers) -> None:
        """Remove what was found. Raises ServerError."""
        for durable in found.durables:
            await consumer.remove(self._connection, durable.stream, durable.name)
        for stream, subject, there in (
            (PARKED, identity.parked_subject(self._project, self._function), found.parked),
            (DEADLETTERS, identity.dead_subject(self._project, self._function), found.dead_letters),
            (AGAIN, identity.again_subject(self._project, self._function), found.sent_back),
        ):
            if there:
                await purge(self._connection, stream, subject)
        with suppress(PermissionDenied):  # they expire by themselves in a week
            await purge(self._connection, ERRORS, identity.errors_of(self._project, self._function))
        if found.gathering:
            await purge(self._connection, GATHER, self._events)
        if found.scheduled:
            for subject in self._schedule:
                await purge(self._connection, AGAIN, subject)
        for key in found.keys:
            await self._kv.remove(key)

    def _ours(self, name: str, metadata: dict[str, str]) -> bool:
        if name in self._taken:
            return False
        told = (metadata.get(PROJECT), metadata.get("jetrunner.function"))
        return function_of(name, self._project) == self._function or told == (self._project, self._function)
