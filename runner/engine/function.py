"""One function in this process: its two durables, their pulls, and the pipeline behind them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio

from runner.bindings import Binding
from runner.core import identity, sharding
from runner.core.history import Identity
from runner.engine.deadlines import Deadlines
from runner.engine.durables import Durables
from runner.engine.keptback import KeptBack
from runner.engine.pipeline import Pipeline
from runner.engine.process import START_SECONDS, Process
from runner.engine.stop import together
from runner.errors import JetrunnerError, PermissionDenied, ServerError
from runner.jetstream import consumer, ownstreams
from runner.jetstream.delivery import Delivery
from runner.jetstream.publisher import insist
from runner.jetstream.pull import Pull, unopened

log = logging.getLogger("jetrunner.functions")

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
        self._missing: set[str] = set()
        self._cleared: int | None = 0
        """What was sent back is removed up to here; None where the credentials do not allow it."""
        self._pending = 0
        self._kept = (-1, 0)
        """How many messages had ended here when the floors were saved, and how often the bucket had lost something."""
        self._sources: list[tuple[Pull, consumer.ConsumerConfig]] = []

    async def start(self) -> None:
        """Make sure of both durables and start to pull."""
        binding = self.binding
        config = self._process.topology.config(self.stream)
        pattern = binding.subject.wildcard
        sharded = sharding.read(config) is not None
        whole = sharded and sharding.reads_all(pattern, config.get("subjects") or ())
        wanted = consumer.config(
            self.durable, pattern, binding.deliver, binding.function, sharded=sharded, whole=whole
        )
        info = await self._add(self.stream, wanted, binding.concurrency, self.pipeline.queue.arrive)
        self._pending = info["num_pending"]
        if sharded:
            self._sources[0][0].original = sharding.reader(pattern)
        await self._add_again()
        for pull, _ in self._sources:
            await pull.open()
        await KeptBack(self._process, binding.function).start()

    async def _add_again(self) -> None:
        """What was sent back to this function alone."""
        project, function = self._process.project, self.binding.function
        subject = identity.again_subject(project, function)
        wanted = consumer.config(identity.durable(project, function), subject, "all", function)
        limit = min(self.binding.concurrency, AGAIN_LIMIT)
        await self._add(ownstreams.AGAIN, wanted, limit, self.pipeline.queue.arrive)

    async def _add(
        self, stream: str, wanted: consumer.ConsumerConfig, limit: int, arrive: Callable[[Delivery], None]
    ) -> dict[str, Any]:
        await self._begin(stream)
        ensure = partial(self._durables.ensure, stream, wanted)
        info = await insist(ensure, START_SECONDS, f"durable {wanted.durable_name}")
        lost = partial(self._lost, len(self._sources))
        pull = Pull(self._process.connection, stream, wanted.durable_name, limit, arrive, lost)
        pull.gone = self._gone
        pull.doubted = partial(self._doubted, stream)
        self._process.histories.of(stream).add(pull)
        self._sources.append((pull, wanted))
        self.pipeline.pulls.append(pull)
        return info

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

    def _lost(self, at: int) -> None:
        """The server says that the durable is not there."""
        pull, wanted = self._sources[at]
        if pull.stream not in self._missing and not self.pipeline.queue.giving_back:
            self._missing.add(pull.stream)
            self._process.tasks.start_soon(self._recover, pull, wanted)

    async def _recover(self, pull: Pull, wanted: consumer.ConsumerConfig) -> None:
        wait = 0.1
        while not self.pipeline.queue.giving_back:
            try:
                if pull.stream == ownstreams.AGAIN:
                    await ownstreams.ensure(self._process.connection, ownstreams.AGAIN)
                await self._durables.ensure(pull.stream, wanted)
                break
            except JetrunnerError as error:
                log.warning("durable %s on %s: %s", pull.durable, pull.stream, error)
            await anyio.sleep(wait)
            wait = min(5.0, wait * 2)
        self._missing.discard(pull.stream)
        pull.ask_again()

    async def keep(self) -> None:
        """Called every few seconds: `remember`, if messages wait, are in work, or have ended here."""
        place = self.pipeline.stats.handled, self._process.floors.lost
        if self._kept != place or self.unsettled or self._pending:
            self._kept = place
            await self.remember()

    async def remember(self) -> None:
        """Read both durables' state and save their floors."""
        for at, (pull, _) in enumerate(self._sources):
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
                self._pending = info["num_pending"]
            if info["delivered"]["stream_seq"] > now.last:
                self._lost(at)
                continue
            floor = info["ack_floor"]["stream_seq"]
            await self._process.floors.save(pull.stream, pull.durable, floor, now.newest)
            if pull.stream == ownstreams.AGAIN:
                await self._clear(floor, moment)

    async def _clear(self, floor: int, moment: tuple[int, int]) -> None:
        """Remove what was sent back and is settled: this durable alone reads it, and never again.

        The floor was read at that moment: by now it may be of another stream, whose messages have not run.
        """
        if not floor or self._cleared in {None, floor}:
            return
        subject = identity.again_subject(self._process.project, self.binding.function)
        ask = {"filter": subject, "seq": floor + 1}
        try:
            if not await self._process.histories.of(ownstreams.AGAIN).still(moment):
                return
            await self._process.connection.api(f"STREAM.PURGE.{ownstreams.AGAIN}", ask)
        except PermissionDenied:
            self._cleared = None
        except ServerError as error:  # the next time
            log.debug("%s stays in %s: %s", subject, ownstreams.AGAIN, error)
        else:
            self._cleared = floor

    # -- the end ----------------------------------------------------------------------------------------

    async def stop_pulling(self) -> None:
        """Ask for nothing more, and give back what has not started."""
        self.pipeline.queue.giving_back = True
        try:
            await together(pull.close for pull, _ in self._sources)
        finally:
            self.pipeline.queue.give_back()

    @property
    def pending(self) -> int:
        """Messages not yet delivered, as the server last said."""
        return self._pending

    @property
    def standing(self) -> list[str]:
        """What has stood still for too long, and why: shards of an ordered function."""
        return []

    @property
    def unsettled(self) -> int:
        """Messages that are in work here."""
        return len(self._gone.unsettled) + sum(len(pull.unsettled) for pull, _ in self._sources)

    async def abandon(self) -> None:
        """Give back what was cancelled."""
        for pull in (self._gone, *(pull for pull, _ in self._sources)):
            for delivery in list(pull.unsettled.values()):
                await self.pipeline.cancelled(delivery)
