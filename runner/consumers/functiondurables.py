"""Where the messages of a function without order come from: its durables, and how far each has come."""

from __future__ import annotations

import time

import anyio
import msgspec

from runner.consumers.durables import Durables
from runner.consumers.hands import found_in, held
from runner.consumers.keptback import KeptBack
from runner.consumers.settled import Settled
from runner.consumers.sources import Sources
from runner.consumers.usage import reader_of
from runner.core import identity
from runner.core.holding import Held, Question
from runner.core.pull import UNCAPPED
from runner.errors import ServerError
from runner.jetstream import consumer, ownstreams
from runner.jetstream.pull import Pull
from runner.pipeline.pipeline import Pipeline
from runner.runtime.runtime import Runtime
from runner.runtime.stop import together

LOOK_SECONDS = 10.0
"""Durables are checked at least this often."""
WORK_OFF_SECONDS = 0.5
"""How long a stop still works off messages that were fetched ahead. It takes some 20 ms, unless the function has become slow."""
LOOK_AGAIN_SECONDS = 0.005
AGAIN_LIMIT = 16
"""Messages sent back that are asked for together; they share the function's slots."""


class FunctionDurables:
    """The durables that one function reads: of its stream, and of `$JETRUNNER.again.…`, where messages are sent back to it and firings come."""

    def __init__(self, runtime: Runtime, pipeline: Pipeline, stream: str, durable: str) -> None:
        self.binding = binding = pipeline.binding
        self.stream = stream
        self.pipeline = pipeline
        self._runtime = runtime
        own = stream if binding.schedule is None else ""
        durables = Durables(runtime.connection, runtime.histories, runtime.floors)
        self._sources = Sources(runtime, binding, own, durable, pipeline, durables)
        self._settled = Settled(runtime, binding.function)
        self.throttled = ""
        """Why the function takes fewer messages; empty while it takes as many as it can."""
        self._looked = 0.0
        """When the durables were last checked."""
        self._kept = (-1, 0)
        """How many messages had ended here when the floors were saved, and how often the bucket had lost something by then."""

    async def prepare(self) -> None:
        """Make sure of the durables; no message is asked for yet. Raises JetrunnerError if the server refuses one."""
        await self._runtime.histories.begin(self.stream, self._runtime.floors)
        if self.binding.schedule is None:
            await self._sources.settle()
        await self._add_again()

    async def start(self) -> None:
        """Start to pull."""
        await self._sources.open()
        await KeptBack(self._runtime, self.binding.function).start()

    async def _add_again(self) -> None:
        """Add the durable of the messages that were sent back to this function alone."""
        project, function = self._runtime.project, self.binding.function
        subject = identity.again_subject(project, function)
        wanted = consumer.config(identity.durable(project, function), subject, "all", function)
        if self.binding.schedule is not None:
            wanted = msgspec.structs.replace(
                wanted,
                filter_subject="",
                filter_subjects=(subject, identity.tick_subject(project, function)),
                max_ack_pending=1 if self.binding.overlap == "skip" else wanted.max_ack_pending,
            )
        limit = min(self.binding.most, AGAIN_LIMIT)
        pull = await self._sources.add(ownstreams.AGAIN, wanted, limit)
        if self.binding.schedule is not None:
            await self._pass_over_missed(pull)

    async def _pass_over_missed(self, pull: Pull) -> None:
        """If no instance has run for a while, only the last firing runs."""
        info = await consumer.info(self._runtime.connection, pull.stream, pull.durable)
        if info is None or info["num_pending"] < 2:
            return
        runtime = self._runtime
        reader = await reader_of(
            runtime.connection,
            runtime.project,
            self.binding.function,
            pull.stream,
            [pull.durable],
            me=runtime.instance,
        )
        if not reader:
            await self.pipeline.pass_over_missed()

    async def keep(self) -> None:
        """Called every few seconds. Calls `remember` if messages wait, are in work, or have ended here, and otherwise every 10 s."""
        now = time.monotonic()
        place = self.pipeline.stats.handled, self._runtime.floors.lost
        if self._kept != place or self.unsettled or self.pending or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if await self.remember():
                self._kept = place

    async def remember(self) -> bool:
        """Read the state of the durables and save their floors. False if a floor may still rise, or could not be read."""
        return all([await self._remember(pull) for pull in list(self._sources.pulls)])

    async def _remember(self, pull: Pull) -> bool:
        history = self._runtime.histories.of(pull.stream)
        moment = history.moment
        try:
            info = await consumer.info(self._runtime.connection, pull.stream, pull.durable)
            now = await history.check(thorough=False)
        except ServerError:
            return False
        if info is None or moment != history.moment or not await self._sources.looked(pull, info, now.last):
            return False
        floor = info["ack_floor"]["stream_seq"]
        subject = self._sources.reads(pull)
        await self._runtime.floors.save(pull.stream, pull.durable, floor, now.newest, subject)
        if pull.stream == ownstreams.AGAIN:
            await self._settled.remove(floor, moment)
        # The server counts acks a little after they arrive: acks of messages that ended here may not be in the floor yet.
        return not info["num_ack_pending"]

    # -- the end ----------------------------------------------------------------------------------------

    async def stop_pulling(self) -> None:
        """Ask for no more messages, work off for up to 0.5 s those delivered for the first time, and give back the rest."""
        queue = self.pipeline.queue
        queue.work_off()  # the server counts a message that is given back as delivered
        until = time.monotonic() + WORK_OFF_SECONDS
        try:
            await together(pull.close for pull in list(self._sources.pulls))
            while queue.working_off and queue.deliveries and time.monotonic() < until:
                await anyio.sleep(LOOK_AGAIN_SECONDS)
        finally:
            queue.give_back()

    @property
    def pending(self) -> int:
        """Messages not yet delivered, as the server last said."""
        return sum(self._sources.waiting.values())

    @property
    def unacked(self) -> int:
        """Messages delivered to any instance and not settled, as the server last said."""
        return sum(self._sources.unacked.values())

    @property
    def lag(self) -> float:
        """How long the oldest undelivered message had waited when the server was last asked, in seconds."""
        return max(self._sources.lags.values(), default=0.0)

    @property
    def blocked(self) -> str:
        """Why the function can read no messages here; empty while it can."""
        return self._sources.blocked or next(
            (pull.refused for pull in self._sources.pulls if pull.refused), ""
        )

    @property
    def standing(self) -> list[str]:
        """Why the function waits for an instance, is throttled, or has a durable that is paused, one line each."""
        return [line for line in (self._sources.waits, self.throttled, *self._sources.drift.paused) if line]

    def take(self, messages: int | None) -> None:
        """Ask the stream once for at most so many messages. None: ask from now on for as many as there is room for."""
        pulls = [each for each in self._sources.pulls if each.stream == self.stream]
        for pull in pulls:
            pull.most = UNCAPPED if messages is None else messages
            pull.wake()
        if messages is not None:
            self._runtime.connection.wire.flush()  # asks now
            for pull in pulls:
                pull.most = 0

    @property
    def unsettled(self) -> int:
        """Messages that are in work here."""
        return sum(len(pull.unsettled) for pull in self._sources.all)

    def in_hands(self, about: Question) -> list[Held]:
        """The deliveries of one message in this process."""
        apart = not self.binding.in_process
        return [
            held(self.binding.function, each, each.source.unsettled, apart=apart)
            for each in found_in(self._sources.all, about)
        ]

    async def abandon(self) -> None:
        """Give back the messages whose handlers were cancelled."""
        for pull in self._sources.all:
            for delivery in list(pull.unsettled.values()):
                await self.pipeline.cancelled(delivery)
