"""One function in this process: its two durables, their pulls, and the pipeline behind them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio

from runner.bindings import Binding
from runner.core import identity
from runner.core.history import Identity
from runner.core.reading import Wait
from runner.engine.deadlines import Deadlines
from runner.engine.durables import Durables
from runner.engine.keptback import KeptBack
from runner.engine.pipeline import Pipeline
from runner.engine.process import START_SECONDS, Process
from runner.engine.reading import Reading
from runner.engine.settled import Settled
from runner.engine.stop import together
from runner.errors import JetrunnerError, PermissionDenied, ServerError, UsageError
from runner.jetstream import consumer, ownstreams
from runner.jetstream.delivery import Delivery
from runner.jetstream.publisher import insist
from runner.jetstream.pull import Pull, unopened

log = logging.getLogger("jetrunner.functions")

LOOK_SECONDS = 10.0
"""Durables are looked at as often, at least."""
WAIT_SECONDS = 1.0
"""Pause before it is asked again whether another instance needs a durable as it is."""
AGAIN_LIMIT = 16
"""Messages sent back that are asked for at once; they share the function's slots."""


class Function:
    """Pulls from the function's stream, and from `again.…` what was sent back to it."""

    def __init__(self, process: Process, binding: Binding, stream: str) -> None:
        self.binding = binding
        self.stream = stream
        self.durable = binding.durable or identity.durable(process.project, binding.function)
        self.pipeline = Pipeline(process, binding)
        self.deadlines = Deadlines(process, self.pipeline)
        self._process = process
        self._durables = Durables(process.connection, process.histories, process.floors)
        self._gone = unopened(process.connection, stream)
        """Messages that are here and that their stream has lost."""
        self.pipeline.pulls.append(self._gone)
        self._reading = Reading(process, self._durables, binding, stream, self.durable)
        self._missing: set[Pull] = set()
        self._settled = Settled(process, binding.function)
        self._waiting: dict[str, int] = {}
        """What each durable of the stream has not delivered yet, as the server last said."""
        self._waits = ""
        """Why nothing is read here for now."""
        self._looked = 0.0
        """When the durables were last looked at."""
        self._begun = False
        self._settling = anyio.Lock()
        self._left: list[Pull] = []
        """Pulls that ask for nothing any more, and whose messages may still be in work."""
        self._kept = (-1, 0)
        """How many messages had ended here when the floors were saved, and how often the bucket had lost something."""
        self._sources: dict[Pull, consumer.ConsumerConfig] = {}

    async def start(self) -> None:
        """Make sure of the durables and start to pull."""
        await self._begin(self.stream)
        await self._settle()
        await self._add_again()
        self._begun = True
        for pull in list(self._sources):
            await pull.open()
        await KeptBack(self._process, self.binding.function).start()

    async def _settle(self) -> None:
        """Read the durables that this function's subject is read with now, and no others. Raises JetrunnerError.

        Where another instance needs a durable as it is, and goes before this one, nothing is read until it has gone.
        """
        async with self._settling:
            found = await insist(self._reading.settle, START_SECONDS, f"durable {self.durable}")
            sources = {each.wanted.durable_name: each for each in ([] if isinstance(found, Wait) else found)}
            for pull in self._reads:
                source = sources.pop(pull.durable, None)
                if source is None:
                    await self._leave(pull)
                else:
                    pull.original, self._sources[pull] = source.original, source.wanted
            for source in sources.values():
                arrive = self.pipeline.queue.arrive
                pull = await self._add(self.stream, source.wanted, self.binding.concurrency, arrive)
                pull.original = source.original
                if self._begun:
                    await pull.open()
        if isinstance(found, Wait):
            self._stand_by(f"instance {found.instance} reads {found.subject} with the durable {self.durable}")

    @property
    def _reads(self) -> list[Pull]:
        """The pulls from the function's own stream."""
        return [pull for pull in self._sources if pull.stream == self.stream]

    async def _leave(self, pull: Pull) -> None:
        """Read a durable no more; what is in work ends here."""
        del self._sources[pull]
        self._left.append(pull)
        await pull.close()
        self.pipeline.queue.give_back_of(pull)

    def _stand_by(self, why: str) -> None:
        if not self._waits:
            log.warning("%s takes nothing for now: %s", self.binding.function, why)
            self._process.tasks.start_soon(self._wait)
        self._waits = why

    async def _wait(self) -> None:
        """Read as soon as no other instance needs the durable as it is."""
        while not self.pipeline.queue.giving_back:
            await anyio.sleep(WAIT_SECONDS)
            try:
                await self._settle()
            except JetrunnerError as error:
                log.warning("%s takes nothing yet: %s", self.binding.function, error)
            else:
                if self._reads:
                    self._waits = ""
                    log.info("%s goes on: no other instance needs the durable", self.binding.function)
                    return

    async def _stray(self, durable: str) -> None:
        """Somebody has given a durable another filter: what it does not read any more is read beside it."""
        if self._settling.locked():
            return
        log.warning("durable %s has another filter than it had: somebody has changed it", durable)
        try:
            await self._settle()
        except UsageError as error:
            for pull in self._reads:
                await self._leave(pull)
            self._stand_by(str(error))
        except JetrunnerError as error:  # the next look finds it again
            log.warning("%s: %s", self.binding.function, error)

    async def _add_again(self) -> None:
        """What was sent back to this function alone."""
        project, function = self._process.project, self.binding.function
        subject = identity.again_subject(project, function)
        wanted = consumer.config(identity.durable(project, function), subject, "all", function)
        limit = min(self.binding.concurrency, AGAIN_LIMIT)
        await self._add(ownstreams.AGAIN, wanted, limit, self.pipeline.queue.arrive)

    async def _add(
        self,
        stream: str,
        wanted: consumer.ConsumerConfig,
        limit: int,
        arrive: Callable[[Delivery], None],
    ) -> Pull:
        await self._begin(stream)
        ensure = partial(self._durables.ensure, stream, wanted)
        info = await insist(ensure, START_SECONDS, f"durable {wanted.durable_name}")
        pull = Pull(
            self._process.connection, stream, wanted.durable_name, limit, arrive, lambda: self._lost(pull)
        )
        pull.gone = self._gone
        pull.doubted = partial(self._doubted, stream)
        self._process.histories.of(stream).add(pull)
        self._sources[pull] = wanted
        self.pipeline.pulls.append(pull)
        if stream == self.stream:
            self._waiting[wanted.durable_name] = info["num_pending"]
        return pull

    async def _begin(self, stream: str) -> None:
        """Find out whether the stream is the one that was read before."""
        history = self._process.histories.of(stream)
        if not history.begun:
            history.presume(await insist(partial(self._process.floors.newest, stream), START_SECONDS))
        with suppress(PermissionDenied):  # the history tells of it
            await insist(history.check, START_SECONDS, f"stream {stream}")

    def _doubted(self, stream: str, message: Identity) -> None:
        history = self._process.histories.of(stream)
        history.doubt(message)
        self._process.tasks.start_soon(self._process.histories.look, history)

    def _lost(self, pull: Pull) -> None:
        """The server says that the durable is not there."""
        wanted = self._sources.get(pull)
        if wanted is not None and pull not in self._missing and not self.pipeline.queue.giving_back:
            self._missing.add(pull)
            self._process.tasks.start_soon(self._recover, pull, wanted)

    async def _recover(self, pull: Pull, wanted: consumer.ConsumerConfig) -> None:
        wait = 0.1
        while not self.pipeline.queue.giving_back:
            try:
                if pull.stream == ownstreams.AGAIN:
                    await ownstreams.ensure(self._process.connection, ownstreams.AGAIN)
                await self._durables.ensure(pull.stream, wanted, refilter=False)
                break
            except JetrunnerError as error:
                log.warning("durable %s on %s: %s", pull.durable, pull.stream, error)
            await anyio.sleep(wait)
            wait = min(5.0, wait * 2)
        self._missing.discard(pull)
        pull.ask_again()

    async def keep(self) -> None:
        """Called every few seconds: `remember`, if messages wait, are in work, or have ended here, and now and then."""
        now = time.monotonic()
        place = self.pipeline.stats.handled, self._process.floors.lost
        if self._kept != place or self.unsettled or self.pending or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._kept = place
            await self.remember()

    async def remember(self) -> None:
        """Read both durables' state and save their floors."""
        for pull, wanted in list(self._sources.items()):
            history = self._process.histories.of(pull.stream)
            moment = history.moment
            try:
                info = await consumer.info(self._process.connection, pull.stream, pull.durable)
                now = await history.check(thorough=False)
            except ServerError:
                continue
            if info is None or moment != history.moment:
                continue
            if pull.stream == self.stream:
                self._waiting[pull.durable] = info["num_pending"]
            if info["delivered"]["stream_seq"] > now.last:
                self._lost(pull)
                continue
            if self._reading.strayed(info, wanted):
                self._process.tasks.start_soon(self._stray, pull.durable)
                continue
            floor = info["ack_floor"]["stream_seq"]
            await self._process.floors.save(pull.stream, pull.durable, floor, now.newest)
            if pull.stream == ownstreams.AGAIN:
                await self._settled.remove(floor, moment)

    # -- the end ----------------------------------------------------------------------------------------

    async def stop_pulling(self) -> None:
        """Ask for nothing more, and give back what has not started."""
        self.pipeline.queue.giving_back = True
        try:
            await together(pull.close for pull in self._sources)
        finally:
            self.pipeline.queue.give_back()

    @property
    def pending(self) -> int:
        """Messages not yet delivered, as the server last said."""
        return sum(self._waiting.values())

    @property
    def standing(self) -> list[str]:
        """What has stood still for too long, and why."""
        return [self._waits] if self._waits else []

    @property
    def unsettled(self) -> int:
        """Messages that are in work here."""
        return sum(len(pull.unsettled) for pull in self._pulls)

    @property
    def _pulls(self) -> tuple[Pull, ...]:
        return (self._gone, *self._left, *self._sources)

    async def abandon(self) -> None:
        """Give back what was cancelled."""
        for pull in self._pulls:
            for delivery in list(pull.unsettled.values()):
                await self.pipeline.cancelled(delivery)
