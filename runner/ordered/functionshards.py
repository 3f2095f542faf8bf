"""Where the messages of an ordered function come from: its shards that this instance owns."""

from __future__ import annotations

import asyncio
import logging
import time

from runner.consumers.durables import Durables
from runner.consumers.hands import found_in, held
from runner.consumers.predecessors import Predecessors
from runner.consumers.sentback import SentBack
from runner.core import sharding
from runner.core.address import Address
from runner.core.generation import OpenGeneration
from runner.core.holding import Held, Question
from runner.core.quantity import counted
from runner.core.sharding import Sharding
from runner.errors import JetrunnerError
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.publisher import retry_until
from runner.jetstream.refusal import require_room
from runner.jetstream.reshard import GenerationStore
from runner.ordered.assured import Assured
from runner.ordered.hands import held_in
from runner.ordered.keyreader import key_reader
from runner.ordered.parking import Parking
from runner.ordered.resumption import Resumption
from runner.ordered.settlement_log import SettlementLog
from runner.ordered.shard import Shard
from runner.ordered.shared import Shared
from runner.ordered.standstill import Standstill
from runner.ordered.still import Still
from runner.ordered.windows import Windows
from runner.pipeline.outcomes import StartGuard
from runner.pipeline.pipeline import Pipeline
from runner.runtime.histories import START_SECONDS
from runner.runtime.runtime import Runtime
from runner.runtime.snapshots import readers, taken

log = logging.getLogger("jetrunner.functions")

HOLD_SECONDS = 1.0
REWRITES = 5
REWRITE_SECONDS = 2.0
LEAST = 16
"""Messages of one shard that are asked for at once, at least."""


class FunctionShards:
    """The shards of one ordered function. Its messages here come from the shards that this instance owns."""

    def __init__(
        self, runtime: Runtime, pipeline: Pipeline, stream: str, durable: str, guard: StartGuard
    ) -> None:
        self.binding = binding = pipeline.binding
        self.stream = stream
        self._pipeline = pipeline
        self._runtime = runtime
        self._durable = durable
        self.open_generation: OpenGeneration | None = None
        """The generation of shards that is open; None before it was read."""
        self.held = ""
        """The instance that still runs the function without order; no shard is opened before that ends. Empty if there is none."""
        self._history = runtime.histories.of(stream)
        self._guard = pipeline.guard = Assured(guard, self._history)
        self._records = SettlementLog(
            runtime,
            binding.function,
            runtime.instance,
            self._history,
            replicated=runtime.topology.config(stream).get("num_replicas", 1) > 1,
        )
        self._history.changed.append(self._records.cut)
        runtime.histories.bucket.changed.append(self._records.forget)
        runtime.histories.bucket.looked.append(self._records.looked)
        parking = self._parking = Parking(runtime, pipeline, self._history, self._shard_of)
        durables = Durables(runtime.connection, runtime.histories, runtime.floors)
        self._shared = Shared(
            runtime, pipeline, self._guard, self._history, durables, self._records, parking,
            key_reader(binding), Windows(runtime.loop, binding.linger) if binding.batch else None,
        )  # fmt: skip
        self._resumption = Resumption(self._parking)
        self._stills: dict[str, Still] = {}
        """By the names of the shards."""
        self._sent_back = SentBack(runtime, binding, pipeline, durables)
        self._shards: dict[str, Shard] = {}
        """Every shard that was ever owned here, by name."""
        self.standstill = Standstill()
        """Open shards that no living instance owns."""
        self._told = 0, 0

    async def prepare(self) -> None:
        """Check that the function's shards can be opened here, as far as the server can be asked. Raises JetrunnerError."""
        function, stream = self.binding.function, self.stream
        if sharding.read(self._runtime.topology.config(stream)) is None:
            log.info("%s: %s has no [shards]: one instance at a time handles it", function, stream)
        await self._runtime.histories.begin(stream, self._runtime.floors)
        await retry_until(self._require_subject, START_SECONDS, f"the shards of {function}")
        await retry_until(self._require_room, START_SECONDS, f"the consumers on {stream}")

    async def _require_room(self) -> None:
        binding, config = self.binding, self._runtime.topology.config(self.stream)
        shards = sharding.read(config) or Sharding()
        await require_room(
            self._runtime.connection, binding.place, self.stream, config,
            (f"{self._durable}-", shards.count), binding.subject.wildcard,
        )  # fmt: skip

    async def start(self) -> None:
        """Read which keys are kept back. Shards are opened later, when they are claimed."""
        if self.held:
            self._runtime.tasks.start_soon(self._hold)
        await self._parking.start()
        await self._sent_back.start()

    async def _require_subject(self) -> None:
        """Raise UsageError if another instance reads another subject: each would give the shards' durables its own filter."""
        project, binding = self._runtime.project, self.binding
        standing, _ = await GenerationStore(self._runtime.connection, project).read(binding.function)
        if standing is None:
            self.held = await self._rival()
        if standing is None or standing.subject == binding.subject.wildcard:
            return
        others = await readers(
            self._runtime.connection, project, binding.function, self.stream, self._durable,
            me=self._runtime.instance,
        )  # fmt: skip
        for instance, told in others.items():
            if (subject := told or standing.subject) != binding.subject.wildcard:
                raise taken(binding, instance, subject)

    async def _rival(self) -> str:
        """The instance that still runs the function without order, on the durable that this one continues; empty if there is none."""
        runtime, function = self._runtime, self.binding.function
        before = Predecessors(
            runtime.connection, runtime.project, function, self.stream, self.binding.subject.wildcard
        )
        return await before.reader(await before.unordered(""), runtime.instance)

    async def _hold(self) -> None:
        """Wait until no instance runs the function without order any more."""
        log.warning(
            "%s takes no messages now: instance %s runs it without order", self.binding.function, self.held
        )
        while self.held:
            await asyncio.sleep(HOLD_SECONDS)
            try:
                self.held = await self._rival()
            except JetrunnerError as error:
                log.debug("%s: %s", self.binding.function, error)
        log.info("%s goes on", self.binding.function)

    def _shard_of(self, subject: str) -> str:
        """The name of the shard where messages of a subject run now."""
        shards = self.open_generation.sharding if self.open_generation is not None else Sharding()
        number = shards.shard_of(subject) if shards.positions else 0
        return f"{self.binding.function}.{shards.generation}.{number}"

    def shard_names(self) -> list[str]:
        """`<function>.<generation>.<number>` of every shard that is open."""
        current = self.open_generation
        if current is None or current.closing:
            return []
        return [f"{self.binding.function}.{current.generation}.{number}" for number in range(current.count)]

    def shard(self, name: str) -> Shard:
        """The shard of this name, just claimed here. It is the same object each time, because its lanes outlive a claim."""
        found = self._shards.get(name)
        if found is None:
            function, generation, number = name.split(".")
            address = Address(self._runtime.project, function, self.stream, int(generation), int(number))
            most = self.binding.most
            limit = max(LEAST, most if self.binding.batch else min(most, 4 * most // len(self.shard_names())))
            found = self._shards[name] = Shard(self._shared, address, limit)
            self._stills[name] = Still(found, self._pipeline.queue)
        found.durable.begin_at(self.open_generation.start if self.open_generation is not None else 0)
        return found

    def sweep(self, now: float) -> None:
        """Look after each shard; called about ten times a second."""
        for shard in self.owned:
            self._resumption.look(shard.lanes)
            self._stills[shard.name].look(now)

    async def keep(self) -> None:
        """Save the floors of the shards owned here that have moved, and look for messages that were sent back to the function."""
        await self._sent_back.look()
        await map_concurrently(lambda shard: shard.floor.save_floor(), self.owned)

    def tell(self) -> None:
        """Log how many of the open shards this instance owns, if the number has changed since the last line."""
        if self._guard.leaving:
            return
        names = self.shard_names()
        here = len({shard.name for shard in self.owned}.intersection(names))
        if names and (here, len(names)) != self._told:
            self._told = here, len(names)
            log.info("%s: owns %s of %s", self.binding.both_names, f"{here:,}", counted(len(names), "shard"))

    @property
    def working(self) -> int:
        """How many shards may start messages here: none while others may have taken them."""
        return len(self.owned) if self._guard.lease_valid(time.monotonic()) else 0

    @property
    def owned(self) -> list[Shard]:
        """The shards that this instance owns."""
        return [shard for shard in self._shards.values() if shard.life.owned]

    def forget(self, name: str) -> None:
        """Drop a shard that was given back, if its generation is no longer open and none of its handlers runs here."""
        if name not in self.shard_names() and not self._shards[name].lanes.ordering.running:
            self._history.remove(self._shards.pop(name))
            del self._stills[name]

    @property
    def standing(self) -> list[str]:
        """The shards that have stood still for too long, as this instance sees it, each with the reason."""
        return [
            *self.standstill.told(),
            *(line for shard in self.owned for line in self._stills[shard.name].standstill.told()),
            *(line for shard in self.owned for line in shard.floor.drift.paused),
        ]

    async def stop_pulling(self) -> None:
        """Ask for no more messages, and give back those that have not started."""
        try:
            await self._sent_back.close()
        finally:
            self._pipeline.queue.give_back()

    async def rewrite(self) -> None:
        """Write again the parked keys and failures that are known here: the bucket may have been emptied, or made again."""
        for _ in range(REWRITES):
            try:
                await self._parking.rewrite()
                for shard in self.owned:
                    await shard.lanes.failures.rewrite()
            except JetrunnerError as error:
                log.warning(
                    "%s: the state of its keys is not in the bucket yet: %s", self.binding.function, error
                )
                await asyncio.sleep(REWRITE_SECONDS)
            else:
                return

    async def abandon(self) -> None:
        """Give back the messages whose handlers were cancelled."""
        for delivery in list(self._parking.pull.unsettled.values()):
            await self._pipeline.cancelled(delivery)
        for shard in self._shards.values():
            for delivery in list(shard.lanes.unsettled.values()):
                await self._pipeline.cancelled(delivery)

    def in_hands(self, about: Question) -> list[Held]:
        """The deliveries of one message that are in this process."""
        function, apart = self.binding.function, not self.binding.in_process
        back = found_in([self._parking.pull], about)
        found = [held(function, each, self._parking.pull.unsettled, apart=apart) for each in back]
        if about.stream == self.stream:
            lanes = [shard.lanes for shard in self._shards.values()]
            told = [held_in(each, function, about.sequence, apart=apart) for each in lanes]
            found += [each for each in told if each is not None]
        return found

    @property
    def blocked(self) -> str:
        """Why the shards' messages cannot be read; empty while they can."""
        return next((shard.lanes.pull.refused for shard in self.owned if shard.lanes.pull.refused), "")

    @property
    def pending(self) -> int:
        """Messages of the shards owned here that are not yet delivered, as the server last said."""
        return sum(shard.floor.pending for shard in self.owned)

    @property
    def unacked(self) -> int:
        """Messages of the shards owned here that are delivered and not settled, as the server last said."""
        return sum(shard.floor.unacked for shard in self.owned)

    @property
    def lag(self) -> float:
        """Seconds that the oldest undelivered message of the shards owned here had waited, as the server last said."""
        return max((shard.floor.lag for shard in self.owned), default=0.0)

    @property
    def parked_keys(self) -> int:
        """Keys that are parked or on their way back, as far as this instance knows."""
        return sum(entry.mark.diverts for entry in self._parking.marks.values())

    @property
    def unsettled(self) -> int:
        """Unsettled messages in this process."""
        return sum(len(shard.lanes.unsettled) for shard in self._shards.values())

    @property
    def delayed(self) -> int:
        """Unsettled messages that wait in this process for their next attempt."""
        return sum(len(shard.lanes.rests) for shard in self._shards.values())
