"""From one generation of shards to the next: one step at a time, by the instance that comes first, the same for all.

Rule 1: a generation opens when all older ones are drained for the function; what came in under an older form of the
        subjects is found by its stream sequence, however late it was stored.
Rule 2: before another generation opens, all shards are given back, and their claims are sealed by compare-and-set: no lane of
        the old one is alive when a key's next message starts in the new one, and an instance that still takes the old
        one for open takes no claim of it.
Rule 3: no instance works on a generation whose shards would part the messages of one of its keys.
Rule 4: each change is a compare-and-set on what the step has read; two that step at once cannot both succeed.
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
"""On a replicated stream: what its leader took in before the change of its transform is stored after this."""
SWEEP_SECONDS = 30.0
"""Durables of generations that were left are looked for this often."""
LATE_SECONDS = 30.0
"""How long after a change a replicated stream is watched for messages that a leader stored in the old form."""

Gone: TypeAlias = Callable[[str, int], bool]
"""Whether the owner of a claim of that revision can hold it no more."""


class Reader(Struct, frozen=True):
    """A function that keeps order, and what it reads."""

    function: str
    stream: str
    subject: str
    """As published, with `*` for tokens."""
    deliver: str = "all"
    keys: tuple[int, ...] = ()
    """Indexes of the tokens that make its key; none: as they were."""

    def require(self, current: OpenGeneration) -> OpenGeneration:
        """The same, when the function keeps its order there. Raises UsageError."""
        if current.closing or not self.keys:
            return current  # nothing is worked on
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
        """Of a stream."""
        self.open_generations = reshard.GenerationStore(connection, project)
        self._connection = connection
        self._project = project
        self._me = me  # the instance that steps; empty: a command
        self._kv = KV(connection)
        self._claims = Claims(connection, project)
        self._seen: dict[tuple[str, str, int], float] = {}
        """When a stream's generation was first seen here, by the monotonic clock."""
        self._swept: dict[str, tuple[OpenGeneration, float]] = {}
        """What was open when it was last swept, and when that was."""
        self._succeeded: set[tuple[str, str]] = set()
        """Functions whose durables without order are removed, each with the time at which its stream was made."""
        self.newest: dict[str, int] = {}
        """The generation in which each stream stores what comes."""

    async def step(self, reader: Reader, gone: Gone) -> OpenGeneration | None:
        """Do what can be done now; returns what stands then, None when another instance was faster."""
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
            await self._history(reader.stream).follow()  # what it rests on was not said by a leader of before
            after = structs.replace(after, newest=state(info).newest)
            if not await self.open_generations.swap(reader.function, after, revision):
                return None
        if not after.closing:
            try:
                await self._sweep(reader.function, after)
                if reader.keys:  # an instance that runs it
                    await self._succeed(reader, created)
            except JetrunnerError as error:  # the next step sweeps again; what is open counts
                log.warning(
                    "%s: what is left of drained generations stays for now: %s", reader.function, error
                )
        return after

    async def _of_now(self, current: OpenGeneration | None, info: Mapping[str, Any]) -> OpenGeneration | None:
        """The same, without what it says of messages that the stream has lost."""
        if current is None or current.stream != info["config"]["name"]:
            return current
        history, known = self._history(current.stream), current.known
        first = void(await history.compare(known if known.sequence else Identity(current.created)))
        if (await history.check(thorough=False)).created != info["created"]:
            raise Unconfirmed(
                f"two servers tell of another {current.stream} each: one of them leads it no more"
            )
        return current if first is None or current.created != info["created"] else current.back(first)

    def _predecessors(self, reader: Reader) -> Predecessors:
        return Predecessors(self._connection, self._project, reader.function, reader.stream, reader.subject)

    async def _succeed(self, reader: Reader, created: str) -> None:
        """Remove what it has left there, once none of it is read: what is open tells where it goes on."""
        key = reader.function, created
        if key not in self._succeeded and await self._predecessors(reader).remove_unread(self._me):
            self._succeeded.add(key)

    async def _begin(self, reader: Reader, info: Mapping[str, Any], now: Sharding) -> OpenGeneration:
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
        if not standing:  # where durables stand, the bucket may have lost claims that are held
            await self._claims.prepare(reader.function, generation, count)
        first = newest + 1 if reader.deliver == "new" and not standing else 0
        if before.durables:
            first, newest = min(before.floor, newest) + 1, min(before.floor, newest)
            log.warning("%s goes on after %d, where it has come without order", reader.function, before.floor)
        if interest.forgets(info["config"]):  # else a shard would lose what comes before it has an owner
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
            # With a bucket that was lost, turns would go back: what is sealed already could not be taken any more.
            turn=max(await self._claims.turn(reader.function, generation), int(time.time())),
        )

    async def _leave(self, reader: Reader, current: OpenGeneration, now: Sharding) -> OpenGeneration:
        """A newer generation stores what comes: go on to the next one that has messages, once this one is drained."""
        through = await self._drained(reader, current)
        if through is None:
            return current
        stored = await reshard.stored(self._connection, reader.stream, reader.subject, now.generation)
        target = generations.following(current, stored, now.generation)
        log.info("%s: generation %d of %s is drained", reader.function, current.generation, reader.stream)
        return current.towards(target, through)

    async def _late(self, reader: Reader, current: OpenGeneration) -> OpenGeneration:
        stored = await reshard.stored(self._connection, reader.stream, reader.subject, current.generation)
        late = generations.straggler(current, stored)
        if late < 0:
            return current
        log.warning(
            "%s: %s has stored messages of generation %d after generation %d had opened; they run now",
            reader.function, reader.stream, late, current.generation,
        )  # fmt: skip
        return current.towards(late, current.through)

    async def _next(
        self, reader: Reader, current: OpenGeneration, config: Mapping[str, Any], gone: Gone
    ) -> OpenGeneration:
        """Open the generation that was decided on, once all claims of the old one are sealed: none is held then."""
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

    async def _drained(self, reader: Reader, current: OpenGeneration) -> int | None:
        durable = identity.durable(self._project, reader.function)
        known = (await reshard.lags(self._connection, reader.stream, durable)).get(durable, [])
        return await reshard.drained(self._connection, current, known)

    async def _count(self, reader: Reader, config: Mapping[str, Any], generation: int) -> int:
        told = generations.counts(config).get(generation)
        if told is not None:
            return told
        return await reshard.shards_with_messages(self._connection, reader.stream, reader.subject, generation)

    def _corrected(self, reader: Reader, current: OpenGeneration, now: Sharding) -> OpenGeneration:
        """What somebody changed by hand is followed: messages that nobody reads would be worse."""
        if (current.count, current.positions) != (now.count, now.positions):
            log.warning(
                "%s has other shards in the same generation: the order of what is stored is not kept;"
                " use `runner shard resize` the next time",
                reader.stream,
            )
        if reader.subject != current.subject:
            told = "%s keeps order: it reads %s from now on, and read %s before"
            log.warning(told, reader.function, reader.subject, current.subject)
        return current.corrected(now, reader.subject, reader.keys or current.keys)

    async def _sweep(self, function: str, current: OpenGeneration) -> None:
        """Remove what is left of generations that are drained: durables and their floors, claims, counts of failures.

        Durables once more from time to time: an instance that stood still while it took a shard may have made one anew.
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
                log.debug("what is left of drained generations stays: %s", error)
                return
