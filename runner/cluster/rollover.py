"""Moves functions from one generation of shards to the next, step by step. Any instance may do a step; the first one counts.

Rule 1: a generation opens when all older ones are drained for the function. A message stored under an older form of the subjects is
        found by its stream sequence, however late it was stored.
Rule 2: before another generation opens, all shards are given back, and their claims are sealed by compare-and-set. So no lane of
        the old generation is alive when a key's next message starts in the new one, and an instance that still believes the old
        one open can take no claim of it.
Rule 3: no instance works on a generation whose shards would divide the messages of one of its keys.
Rule 4: each change is a compare-and-set on the record that the step has read, so that two steps at once cannot both succeed.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, TypeAlias

from msgspec import Struct, structs

from runner.cluster.claims import Claims
from runner.consumers.predecessors import Before, Predecessors
from runner.core import generation as generations
from runner.core import identity, sharding
from runner.core.generation import OpenGeneration
from runner.core.history import Identity, void
from runner.core.sharding import Sharding
from runner.errors import JetrunnerError, PermissionDenied, Unconfirmed, UsageError
from runner.jetstream import consumer, interest, reshard
from runner.jetstream.connection import Connection
from runner.jetstream.history import state
from runner.jetstream.kv import KV
from runner.runtime.history import History

log = logging.getLogger("jetrunner.shards")

SETTLING_SECONDS = 1.0
"""On a replicated stream: after so long, all messages that the leader took in before the change of its transform are stored."""
SWEEP_SECONDS = 30.0
"""How often leftover durables of drained generations are looked for."""
LATE_SECONDS = 30.0
"""How long after a change a replicated stream is watched for messages that a leader stored in the old form."""

IsGone: TypeAlias = Callable[[str, int], bool]
"""Whether the owner of a claim of that revision can no longer hold it."""


class OrderedReader(Struct, frozen=True):
    """An ordered function, and the subject that it reads."""

    function: str
    stream: str
    subject: str
    """The subject as published, with `*` for tokens."""
    deliver: str = "all"
    keys: tuple[int, ...] = ()
    """Indexes of the tokens that make its key; empty: as in the open generation."""

    def require(self, current: OpenGeneration) -> OpenGeneration:
        """Return the generation if the function keeps its order in it. Raises UsageError."""
        if current.closing or not self.keys:
            return current  # no message runs
        place = generations.splitting(self.subject, self.keys, current.sharding.positions)
        if place is None:
            return current
        raise UsageError(
            f"{self.function}: generation {current.generation} of {self.stream} is sharded by token {place + 1} of its "
            "subjects: ordered_by= must hold it, or a key would stand in several shards",
            hint="if the stream is sharded otherwise by now, drain this one with the ordered_by= of before; "
            'or begin with deliver="new", or with a copy of the stream (source = in a stream file)',
        )


class Rollover:
    """Steps through the generations for the functions of a project."""

    def __init__(
        self,
        connection: Connection,
        project: str,
        history: Callable[[str], History] | None = None,
        me: str = "",
    ) -> None:
        self._history = history if history is not None else cache(partial(History, connection))
        """The history of a stream."""
        self.open_generations = reshard.GenerationStore(connection, project)
        self._connection = connection
        self._project = project
        self._me = me  # the instance that steps; empty: a command
        self._kv = KV(connection)
        self._claims = Claims(connection, project)
        self._seen: dict[tuple[str, str, int], float] = {}
        """When a stream's generation was first seen here, by the monotonic clock."""
        self._swept: dict[str, tuple[OpenGeneration, float]] = {}
        """By function, the generation that was open at the last sweep, and the time of that sweep."""
        self._succeeded: set[tuple[str, str]] = set()
        """Functions whose durables from before the order are removed, each with the time at which its stream was made."""
        self.newest: dict[str, int] = {}
        """By stream, the generation in which new messages are stored."""

    async def step(self, reader: OrderedReader, gone: IsGone) -> OpenGeneration | None:
        """Do the next step, if one can be done; returns the open generation after it, or None if another instance was faster."""
        info = await self._connection.api(f"STREAM.INFO.{reader.stream}")
        config, created = info["config"], info["created"]
        now = sharding.read(config) or Sharding()
        self.newest[reader.stream] = now.generation
        seen = self._seen.setdefault((reader.stream, created, now.generation), time.monotonic())
        age = time.monotonic() - seen if config.get("num_replicas", 1) > 1 else SETTLING_SECONDS
        standing, revision = await self.open_generations.read(reader.function)
        current = await self._of_now(standing, info)
        after: OpenGeneration | None
        if current is None or (current.stream, current.created) != (reader.stream, created):
            after = await self._begin(reader, info, now)
        elif current.closing:
            after = await self._next(reader, current, config, gone)
        elif current.generation != now.generation:
            after = await self._leave(reader, current, now) if age >= SETTLING_SECONDS else current
        elif SETTLING_SECONDS < age < LATE_SECONDS:
            after = await self._late(reader, current)
        else:
            after = self._corrected(reader, current, now)
        reader.require(after)
        if after != standing:
            await self._history(reader.stream).follow()  # makes sure that no former leader has answered above
            after = structs.replace(after, newest=state(info).newest)
            if not await self.open_generations.swap(reader.function, after, revision):
                return None
        if not after.closing:
            try:
                await self._sweep(reader.function, after)
                if reader.keys:  # the caller is an instance that runs the function
                    await self._succeed(reader, created)
            except JetrunnerError as error:  # the next step sweeps again; the generation is open all the same
                log.warning(
                    "%s: leftover durables and records cannot be deleted yet: %s",
                    reader.function,
                    error,
                )
        return after

    async def _of_now(self, current: OpenGeneration | None, info: Mapping[str, Any]) -> OpenGeneration | None:
        """The open generation, without its statements on messages that the stream has lost."""
        if current is None or current.stream != info["config"]["name"]:
            return current
        history, known = self._history(current.stream), current.known
        first = void(await history.compare(known if known.sequence else Identity(current.created)))
        if (await history.check(thorough=False)).created != info["created"]:
            raise Unconfirmed(
                f"two servers tell of another {current.stream} each: one of them leads it no more"
            )
        return current if first is None or current.created != info["created"] else current.back(first)

    def _predecessors(self, reader: OrderedReader) -> Predecessors:
        return Predecessors(self._connection, self._project, reader.function, reader.stream, reader.subject)

    async def _succeed(self, reader: OrderedReader, created: str) -> None:
        """Delete the durables of when the function kept no order, once nobody reads them: the open generation says where it goes on."""
        key = reader.function, created
        if key not in self._succeeded and await self._predecessors(reader).remove_unread(self._me):
            self._succeeded.add(key)

    async def _begin(self, reader: OrderedReader, info: Mapping[str, Any], now: Sharding) -> OpenGeneration:
        durable = identity.durable(self._project, reader.function)
        standing: dict[int, int] = {}
        for each in (await reshard.lags(self._connection, reader.stream, durable)).get(durable, ()):
            standing[each.generation] = standing.get(each.generation, 0) + 1
        before = Before() if standing else await self._predecessors(reader).unordered("")
        stored = await reshard.stored(self._connection, reader.stream, reader.subject, now.generation)
        stored = {each: last for each, last in stored.items() if last > before.floor}
        generation, through = generations.oldest(stored, standing, now.generation, deliver=reader.deliver)
        newest = info["state"]["last_seq"]
        count = await self._count(reader, info["config"], generation)
        if not standing:  # if durables exist, the bucket may have lost claims that are held
            await self._claims.prepare(reader.function, generation, count)
        first = newest + 1 if reader.deliver == "new" and not standing else 0
        if before.durables:
            first, newest = min(before.floor, newest) + 1, min(before.floor, newest)
            log.warning(
                "%s continues after %d, where it stood when it ran without order",
                reader.function,
                before.floor,
            )
        if interest.forgets(info["config"]):  # else a shard without an owner would lose messages
            of = Sharding(generation, count)
            shards = consumer.of_shards(self._project, reader.function, reader.subject, of, first)
            await interest.stand(self._connection, reader.stream, shards)
        return OpenGeneration(
            stream=reader.stream,
            created=info["created"],
            subject=reader.subject,
            generation=generation,
            count=count,
            positions=generations.positions(info["config"], generation),
            keys=reader.keys,
            first=first,
            start=first,
            through=newest if first else through,
            # After the loss of a bucket turns would go back, and sealed claims could not be taken any more.
            turn=max(await self._claims.turn(reader.function, generation), int(time.time())),
        )

    async def _leave(self, reader: OrderedReader, current: OpenGeneration, now: Sharding) -> OpenGeneration:
        """A newer generation stores new messages: once this one is drained, move to the next one that has messages."""
        through = await self._drained(reader, current)
        if through is None:
            return current
        stored = await reshard.stored(self._connection, reader.stream, reader.subject, now.generation)
        target = generations.following(current, stored, now.generation)
        log.info("%s: generation %d of %s is drained", reader.function, current.generation, reader.stream)
        return current.towards(target, through)

    async def _late(self, reader: OrderedReader, current: OpenGeneration) -> OpenGeneration:
        stored = await reshard.stored(self._connection, reader.stream, reader.subject, current.generation)
        late = generations.straggler(current, stored)
        if late < 0:
            return current
        log.warning(
            "%s: %s stored messages of generation %d after generation %d had opened; they run now, out of order",
            reader.function, reader.stream, late, current.generation,
        )  # fmt: skip
        return current.towards(late, current.through)

    async def _next(
        self, reader: OrderedReader, current: OpenGeneration, config: Mapping[str, Any], gone: IsGone
    ) -> OpenGeneration:
        """Open the chosen generation, once all claims of the old one are sealed: then none is held."""
        function, generation = reader.function, current.generation
        if not await self._claims.seal(function, generation, current.count, current.turn, gone):
            return current
        if current.to > current.generation:
            through = await self._drained(reader, current)
            if through is None:
                return current.reopened()
            current = current.towards(current.to, through)
        log.info("%s: generation %d of %s is open", reader.function, current.to, reader.stream)
        positions = generations.positions(config, current.to)
        count = await self._count(reader, config, current.to)
        await self._claims.prepare(reader.function, current.to, count)
        return current.opened(count, positions)

    async def _drained(self, reader: OrderedReader, current: OpenGeneration) -> int | None:
        durable = identity.durable(self._project, reader.function)
        known = (await reshard.lags(self._connection, reader.stream, durable)).get(durable, [])
        return await reshard.drained(self._connection, current, known)

    async def _count(self, reader: OrderedReader, config: Mapping[str, Any], generation: int) -> int:
        told = generations.counts(config).get(generation)
        if told is not None:
            return told
        return await reshard.shards_with_messages(self._connection, reader.stream, reader.subject, generation)

    def _corrected(self, reader: OrderedReader, current: OpenGeneration, now: Sharding) -> OpenGeneration:
        """Follow a change of the stream by hand: messages that nobody reads would be worse than lost order."""
        if (current.count, current.positions) != (now.count, now.positions):
            log.warning(
                "the shards of %s were changed within their generation: stored messages lose their order;"
                " use `runner shard resize` the next time",
                reader.stream,
            )
        if reader.subject != current.subject:
            told = "%s keeps order: it reads %s from now on, and read %s before"
            log.warning(told, reader.function, reader.subject, current.subject)
        return current.corrected(now, reader.subject, reader.keys or current.keys)

    async def _sweep(self, function: str, current: OpenGeneration) -> None:
        """Remove the leftovers of drained generations: durables and their floors, claims, failure records.

        Durables are removed again every 30 s, because an instance that stood still while it took a shard may have made one.
        """
        swept, when = self._swept.get(function, (None, 0.0))
        now = time.monotonic()
        if not current.generation or (swept == current and now - when <= SWEEP_SECONDS):
            return
        durable = identity.durable(self._project, function)
        await reshard.remove_older(self._connection, durable, current)
        if swept != current:
            await self._sweep_bucket(function, durable, current)
        self._swept[function] = current, now

    async def _sweep_bucket(self, function: str, durable: str, current: OpenGeneration) -> None:
        keys = [
            f"{kind}.{self._project}.{function}.{generation}.>"
            for generation in range(current.generation)
            for kind in ("claim", "failures")
        ]
        for key in await self._kv.read([f"floor.{self._project}.{current.stream}.*"]):
            match = re.fullmatch(rf"{re.escape(durable)}-(\d+)-\d+", key.rpartition(".")[2])
            if match is not None and int(match[1]) < current.generation:
                keys.append(key)
        for key in keys:
            try:
                await self._kv.remove(key)
            except PermissionDenied as error:
                log.debug("durables and claims of drained generations cannot be deleted: %s", error)
                return
