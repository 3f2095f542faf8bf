"""One function in this process: its two durables, their pulls, and the pipeline behind them."""

from __future__ import annotations

import logging
import time

import anyio
import msgspec

from runner.bindings import Binding
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
from runner.pipeline.deadlines import Deadlines
from runner.pipeline.message import read
from runner.pipeline.pipeline import Pipeline
from runner.pipeline.stats import JoinCounts, Stats
from runner.runtime.runtime import Runtime
from runner.runtime.stop import together

log = logging.getLogger("jetrunner.functions")

LOOK_SECONDS = 10.0
"""Durables are looked at this often, at least."""
WORK_OFF_SECONDS = 0.5
"""A stop works off for so long what was fetched ahead. It takes some 20 ms, unless the function has become slow."""
LOOK_AGAIN_SECONDS = 0.005
AGAIN_LIMIT = 16
"""Messages sent back that are asked for at once; they share the function's slots."""


class Function:
    """Pulls from the function's stream, and from `$JETRUNNER.again.…` what was sent back to it; firings come there, too."""

    def __init__(self, runtime: Runtime, binding: Binding, stream: str) -> None:
        self.binding = binding
        self.stream = stream
        self.durable = binding.durable or identity.durable(runtime.project, binding.function)
        self.pipeline = Pipeline(runtime, binding)
        self.deadlines = Deadlines(runtime, self.pipeline)
        self._runtime = runtime
        self._durables = Durables(runtime.connection, runtime.histories, runtime.floors)
        own = stream if binding.schedule is None else ""
        self._sources = Sources(runtime, binding, own, self.durable, self.pipeline, self._durables)
        self._settled = Settled(runtime, binding.function)
        self.throttled = ""
        """Why it takes fewer messages; empty while it takes all it can."""
        self._looked = 0.0
        """When the durables were last looked at."""
        self._kept = (-1, 0)
        """How many messages had ended here when the floors were saved, and how often the bucket had lost something."""

    async def prepare(self) -> None:
        """Make sure of the durables; nothing is asked for yet. Raises JetrunnerError for what the server refuses."""
        await self._runtime.histories.begin(self.stream, self._runtime.floors)
        if self.binding.schedule is None:
            await self._sources.settle()
        await self._add_again()

    async def start(self) -> None:
        """Start to pull."""
        await self._sources.open()
        await KeptBack(self._runtime, self.binding.function).start()

    async def _add_again(self) -> None:
        """What was sent back to this function alone."""
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
        """Where no instance has run for a while, only the last firing runs."""
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

    def sweep(self, now: float) -> None:
        """Called about ten times a second."""
        self.deadlines.sweep(now)

    async def keep(self) -> None:
        """Called every few seconds: `remember`, if messages wait, are in work, or have ended here, and now and then."""
        if self.pipeline.gathering is not None:
            await self.pipeline.gathering.count_waiting()
        now = time.monotonic()
        place = self.pipeline.stats.handled, self._runtime.floors.lost
        if self._kept != place or self.unsettled or self.pending or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if await self.remember():
                self._kept = place

    async def remember(self) -> bool:
        """Read both durables' state and save their floors; False when a floor may rise yet, or could not be read."""
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
        # The server takes acks in beside its answers: those of what has ended here may not be in the floor yet.
        return not info["num_ack_pending"]

    @property
    def stats(self) -> Stats:
        """What it has done in this process."""
        return self.pipeline.stats

    @property
    def joins(self) -> JoinCounts | None:
        """What it has joined without all parts; None of a function that joins none."""
        return self.pipeline.gathering.counts if self.pipeline.gathering is not None else None

    # -- the end ----------------------------------------------------------------------------------------

    async def stop_pulling(self) -> None:
        """Ask for nothing more, work off for a moment what is here for the first time, and give back the rest."""
        queue = self.pipeline.queue
        if self.binding.key_positions:
            queue.giving_back = True
        else:  # the server counts one that is given back as delivered
            queue.work_off()
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
        """Seconds that the oldest message had waited that was not delivered, when the server was last asked."""
        return max(self._sources.lags.values(), default=0.0)

    @property
    def busy(self) -> int:
        """Slots in which a handler runs."""
        return len({each.task for pull in self.pipeline.pulls for each in pull.unsettled.values()} - {None})

    @property
    def blocked(self) -> str:
        """Why nothing can be read here; empty while something can."""
        return self._sources.blocked or next(
            (pull.refused for pull in self._sources.pulls if pull.refused), ""
        )

    @property
    def standing(self) -> list[str]:
        """What has stood still for too long, and why."""
        return [line for line in (self._sources.waits, self.throttled) if line]

    def take(self, messages: int | None) -> None:
        """Ask the stream for so many messages at most, once; None: for all that there is room for."""
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

    @property
    def at_work(self) -> list[str]:
        """The messages that its handlers run with now, in words."""
        running = (
            each
            for pull in self.pipeline.pulls
            for each in list(pull.unsettled.values())
            if each.task is not None
        )
        return [f"{read(each).id} ({read(each).origin.subject}), attempt {each.attempt}" for each in running]

    @property
    def delayed(self) -> int:
        """Those of them that wait for their next attempt: none, the server has those that do."""
        return 0

    @property
    def unkept(self) -> int:
        """Errors of attempts to be retried that were not kept."""
        return self._runtime.errors.unkept[self.binding.function]

    def in_hands(self, about: Question) -> list[Held]:
        """What is here of one message."""
        apart = not self.binding.in_process
        return [
            held(self.binding.function, each, each.source.unsettled, apart=apart)
            for each in found_in(self._sources.all, about)
        ]

    async def abandon(self) -> None:
        """Give back what was cancelled."""
        for pull in self._sources.all:
            for delivery in list(pull.unsettled.values()):
                await self.pipeline.cancelled(delivery)
