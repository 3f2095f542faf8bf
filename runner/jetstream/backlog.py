"""The messages that wait in the shards of an ordered function, also in shards without a durable.

Rule 1: the durable of a shard tells how many wait. Without a durable, all messages stored in the shard for the function wait.
Rule 2: counting is expensive for the server. An older generation is counted again only if its last message has changed, because no
        messages are added to it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.core import generation as generations
from runner.core import sharding
from runner.core.generation import OpenGeneration, stored_subject
from runner.core.sharding import Sharding
from runner.jetstream import reshard
from runner.jetstream.connection import Connection
from runner.jetstream.messages import subjects
from runner.jetstream.reshard import Lag


class Backlog:
    """Counts the waiting messages of functions that keep order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counted: dict[tuple[str, str, int], tuple[int, dict[int, int]]] = {}
        """The last sequence, and the number of messages in each shard, by stream, subject and generation."""

    async def lags(
        self, current: OpenGeneration, info: Mapping[str, Any], known: Sequence[Lag], *, older: bool = False
    ) -> list[Lag]:
        """All shards of the open generation, and others with messages; `info` is the server's info on the stream.

        `known` is what the function's durables say. With `older` the newest generation is not counted.
        """
        newest = (sharding.read(info["config"]) or Sharding()).generation
        counts = generations.counts(info["config"])
        begin = 0  # the stream was made anew
        if current.created == info["created"]:
            begin = current.generation
            counts[begin] = current.count
        settled = {
            generation
            for generation in {lag.generation for lag in known if lag.generation < begin}
            if not await self._late(current, generation)
        }
        found = {(lag.generation, lag.number): lag for lag in known if lag.generation not in settled}
        for generation in range(begin, newest if older else newest + 1):
            count = counts.get(generation)
            if count is not None and all((generation, number) in found for number in range(count)):
                continue
            waiting = await self._stored(current, generation, newest)
            if generation == begin == current.generation:
                waiting = {
                    number: await self._unread(current, number, waiting.get(number, 0))
                    for number in {*range(current.count), *waiting}
                    if (generation, number) not in found
                }
            for number, pending in waiting.items():
                found.setdefault((generation, number), Lag(generation, number, pending, 0, 0))
        return [found[place] for place in sorted(found)]

    async def _late(self, current: OpenGeneration, generation: int) -> bool:
        """Whether messages came into a generation after the function left it.

        A durable of the generation does not tell: an instance that stood still may have made it anew, and then it counts all
        messages again.
        """
        subject = stored_subject(current.subject, generation)
        return current.left_behind(generation, await reshard.last(self._connection, current.stream, subject))

    async def _unread(self, current: OpenGeneration, number: int, stored: int) -> int:
        """How many messages wait in a shard of the open generation: all, or those since the function's beginning."""
        if not stored or not current.start:
            return stored
        subject = sharding.shard_filter(current.subject, current.generation, number)
        last = await reshard.last(self._connection, current.stream, subject)
        return max(0, min(stored, last - current.start + 1))

    async def _stored(self, current: OpenGeneration, generation: int, newest: int) -> dict[int, int]:
        """How many messages of the function each shard of a generation holds; empty if none holds any."""
        place = (current.stream, current.subject, generation)
        last = 0
        if generation < newest:
            subject = stored_subject(current.subject, generation)
            last = await reshard.last(self._connection, current.stream, subject)
            before, counted = self._counted.get(place, (0, {}))
            if not last or last == before:
                return counted if last else {}
        counted = await self._count(current, generation)
        self._counted[place] = (last, counted)
        return counted

    async def _count(self, current: OpenGeneration, generation: int) -> dict[int, int]:
        found: dict[int, int] = {}
        pattern = stored_subject(current.subject, generation)
        async for subject, count in subjects(self._connection, current.stream, pattern):
            in_generation, number = sharding.place(subject)
            if in_generation == generation:
                found[number] = found.get(number, 0) + count
        return found
