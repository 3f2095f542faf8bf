"""How far a function came with earlier durables: it had another `durable=`, or has gained or lost `ordered_by` since.

Rule 1: a function continues after the farthest sequence up to which one of these durables has settled all messages of its subject.
Rule 2: no instance begins while another still reads with these durables: both would run the messages that come meanwhile.
Rule 3: the earlier durables are removed once the present ones stand at that sequence. Else they would be taken for the function's
        again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from runner.consumers.usage import reader_of
from runner.core import identity, sharding
from runner.core.sharding import Sharding
from runner.core.streams.plan import ALSO, generation_of
from runner.core.subject import covers
from runner.errors import PermissionDenied, ServerError, UsageError
from runner.jetstream import codes, consumer, reshard
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import consumers_on, subjects_of

log = logging.getLogger("jetrunner.durables")

SUBJECT = "jetrunner.subject"
"""Key in a durable's metadata: the function's subject, as published, that its filter stands for."""
PROJECT = "jetrunner.project"
"""Key in a durable's metadata: its project, where its name does not tell."""


class Before(Struct, frozen=True):
    """The durables that a function has left, and how far they came."""

    floor: int = 0
    """All messages of the subject up to this sequence are settled; 0: not known."""
    durables: tuple[str, ...] = ()
    """Durables to be removed once the floor is kept."""
    ordered: bool = False
    """Whether the function has kept order; then its open generation is to be removed, too."""


class Predecessors:
    """The durables that a function has left on its stream."""

    def __init__(
        self, connection: Connection, project: str, function: str, stream: str, subject: str
    ) -> None:
        self._connection = connection
        self._project = project
        self._function = function
        self._stream = stream
        self._subject = subject
        self._open_generations = reshard.GenerationStore(connection, project)

    async def unordered(self, durable: str) -> Before:
        """The function's other durables without order, besides this one. Raises ServerError."""
        try:
            found = [
                info
                for info in await consumers_on(self._connection, self._stream)
                if self._ours(info) and info["name"] != durable
            ]
        except PermissionDenied:
            return Before()
        return Before(self._farthest(found), tuple(each["name"] for each in found))

    async def ordered(self) -> Before:
        """The durables of the function's shards, from when it kept order. Raises ServerError."""
        try:
            current, _ = await self._open_generations.read(self._function)
        except ServerError as error:
            if error.code != codes.STREAM_NOT_FOUND and not isinstance(error, PermissionDenied):
                raise
            return Before()  # there is no bucket yet
        if current is None or current.stream != self._stream:
            return Before()
        info = await self._connection.api(f"STREAM.INFO.{self._stream}")
        if current.created != info["created"]:
            return Before()
        name = identity.durable(self._project, self._function)
        shards = [
            each
            for each in await consumers_on(self._connection, self._stream)
            if each["name"].startswith(f"{name}-") and generation_of(each["name"]) >= 0
        ]
        names = tuple(each["name"] for each in shards)
        now = sharding.read(info["config"]) or Sharding()
        floor = max(0, current.first - 1)
        if not covers(current.subject, self._subject):
            raise UsageError(
                f"{self._function} kept order until now and read {current.subject}: without order it would read "
                f"{self._subject}, and nothing tells where both go on",
                hint=f"run it without ordered_by= on {current.subject} first, and change the subject after that",
            )
        newest = not current.closing and current.generation == now.generation
        by_number = {int(each["name"].rpartition("-")[2]): each for each in shards
                     if generation_of(each["name"]) == current.generation}  # fmt: skip
        least: int = info["state"]["last_seq"]
        through = current.through
        for number in range(current.count):
            shard = by_number.get(number)
            if shard is None:
                return Before(floor, names, ordered=True)
            text = sharding.shard_filter(current.subject, current.generation, number)
            last = await reshard.last(self._connection, self._stream, text)
            through = max(through, last)
            waits = shard["num_pending"] or shard["num_ack_pending"]
            if waits or last > shard["delivered"]["stream_seq"]:
                least = min(least, shard["ack_floor"]["stream_seq"])
        # Messages of later generations came after all messages of this one, and are not read.
        return Before(max(floor, least if newest else min(least, through)), names, ordered=True)

    async def remove(self, before: Before) -> None:
        """Remove the durables that were left. Raises ServerError."""
        for name in before.durables:
            await consumer.remove(self._connection, self._stream, name)
        if before.ordered:
            await self._open_generations.remove(self._function)

    async def remove_unread(self, me: str) -> bool:
        """Remove the durables without order, unless an instance other than `me` reads one of them. Raises ServerError."""
        before = await self.unordered("")
        if found := await self.reader(before, me):
            told = "%s: %s is not removed yet: instance %s reads it"
            log.warning(told, self._function, ", ".join(before.durables), found)
            return False
        await self.remove(before)
        return True

    async def reader(self, before: Before, me: str) -> str:
        """An instance other than `me` that reads a durable that was left, without order; empty: none. Raises ServerError."""
        return await reader_of(
            self._connection, self._project, self._function, self._stream, before.durables, me=me
        )

    def _ours(self, info: Mapping[str, Any]) -> bool:
        metadata = info["config"].get("metadata") or {}
        if f"-{ALSO}-" in info["name"] or generation_of(info["name"]) >= 0:
            return False
        filters = subjects_of(info["config"]) or (metadata.get(SUBJECT),)
        if filters != (self._subject,):
            return False
        if info["name"] == identity.durable(self._project, self._function):
            return True
        return (metadata.get("jetrunner.function"), metadata.get(PROJECT)) == (self._function, self._project)

    def _farthest(self, infos: Iterable[Mapping[str, Any]]) -> int:
        return max((each["ack_floor"]["stream_seq"] for each in infos), default=0)
