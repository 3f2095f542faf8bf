"""One function in this process: its two durables, their pulls, and the pipeline behind them."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import anyio
import msgspec

from runner.bindings import Binding
from runner.core import identity
from runner.engine.deadlines import Deadlines
from runner.engine.floor import Floors
from runner.engine.pipeline import Pipeline
from runner.engine.process import Process
from runner.errors import JetrunnerError, ServerError, UsageError
from runner.jetstream import consumer, ownstreams
from runner.jetstream.pull import Pull

log = logging.getLogger("jetrunner.functions")

AGAIN_LIMIT = 16
"""Messages sent back that are asked for at once; they share the function's slots."""


class Function:
    """Pulls from the function's stream, and from `again.…` what was sent back to it."""

    def __init__(self, process: Process, binding: Binding, stream: str) -> None:
        if binding.ordered_by:
            raise UsageError(
                f"{binding.file}:{binding.line}: {binding.function}: ordered_by= is not available yet"
            )
        self.binding = binding
        self.stream = stream
        self.durable = binding.durable or identity.durable(process.project, binding.function)
        self.pipeline = Pipeline(process, binding)
        self.deadlines = Deadlines(process, self.pipeline)
        self.info: dict[str, Any] = {}
        """The durable's consumer info as last seen."""
        self._process = process
        self._floors = Floors(process.bucket, process.project)
        self._again = identity.durable(process.project, binding.function)
        self._missing: set[str] = set()
        self._sources: list[tuple[Pull, consumer.ConsumerConfig]] = []

    async def start(self) -> None:
        """Make sure of both durables and start to pull."""
        binding, process = self.binding, self._process
        main = consumer.config(self.durable, binding.subject.wildcard, binding.deliver, binding.function)
        subject = identity.again_subject(process.project, binding.function)
        again = consumer.config(self._again, subject, "all", binding.function)
        for stream, wanted, limit in (
            (self.stream, main, binding.concurrency),
            (ownstreams.AGAIN, again, min(binding.concurrency, AGAIN_LIMIT)),
        ):
            info = await self._ensure(stream, wanted)
            if stream == self.stream and wanted is main:
                self.info = info
            lost = partial(self._lost, len(self._sources))
            pull = Pull(
                process.connection, stream, wanted.durable_name, limit, self.pipeline.queue.arrive, lost
            )
            self._sources.append((pull, wanted))
            self.pipeline.pulls.append(pull)
        for pull, _ in self._sources:
            await pull.open()

    async def _ensure(self, stream: str, wanted: consumer.ConsumerConfig) -> dict[str, Any]:
        """The durable is there afterwards: new, or anew at its floor when somebody deleted it."""
        connection = self._process.connection
        if await consumer.info(connection, stream, wanted.durable_name) is None:
            created = (await connection.api(f"STREAM.INFO.{stream}"))["created"]
            floor = await self._floors.last(stream, wanted.durable_name, created)
            if floor is not None:
                log.warning(
                    "durable %s on %s was deleted; it goes on after %d", wanted.durable_name, stream, floor
                )
                wanted = msgspec.structs.replace(
                    wanted, deliver_policy="by_start_sequence", opt_start_seq=floor + 1
                )
        info, new = await consumer.ensure(connection, stream, wanted)
        if new and info.get("num_pending"):
            log.info(
                "new durable %s on %s: %d messages wait", wanted.durable_name, stream, info["num_pending"]
            )
        return info

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
                await self._ensure(pull.stream, wanted)
                break
            except JetrunnerError as error:
                log.warning("durable %s on %s: %s", pull.durable, pull.stream, error)
            await anyio.sleep(wait)
            wait = min(5.0, wait * 2)
        self._missing.discard(pull.stream)
        pull.ask_again()

    async def remember(self) -> None:
        """Read both durables' state and save their floors; called every few seconds."""
        for pull, _ in self._sources:
            try:
                info = await consumer.info(self._process.connection, pull.stream, pull.durable)
                if info is None:
                    continue
                if pull is self._sources[0][0]:
                    self.info = info
                created = (await self._process.connection.api(f"STREAM.INFO.{pull.stream}"))["created"]
            except ServerError:
                continue
            floor = info["ack_floor"]["stream_seq"]
            if floor:
                await self._floors.save(pull.stream, pull.durable, floor, created)

    # -- the end ----------------------------------------------------------------------------------------

    async def stop_pulling(self) -> None:
        """Ask for nothing more, and give back what has not started."""
        self.pipeline.queue.giving_back = True
        for pull, _ in self._sources:
            await pull.close()
        self.pipeline.queue.give_back()

    @property
    def unsettled(self) -> int:
        """Messages that are in work here."""
        return sum(len(pull.unsettled) for pull, _ in self._sources)

    async def abandon(self) -> None:
        """Give back what was cancelled."""
        for pull, _ in self._sources:
            for delivery in list(pull.unsettled.values()):
                await self.pipeline.cancelled(delivery)
