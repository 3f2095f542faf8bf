"""The durables that a function without order reads, and their pulls: it finds them, and keeps them as they should be.

Rule 1: a durable that is gone is made again at its floor, and changed settings are put back.
Rule 2: a durable is not read while another instance needs it with another filter, or while no function can read with it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import anyio

from runner.bindings import Binding
from runner.consumers.drift import Drift
from runner.consumers.durables import Durables
from runner.consumers.predecessors import SUBJECT
from runner.consumers.reading import Reading
from runner.consumers.stranded import Stranded
from runner.core.ahead import MOST
from runner.core.history import Identity
from runner.core.news import News
from runner.core.reading import WaitForInstance
from runner.errors import JetrunnerError, ServerError, UsageError
from runner.jetstream import consumer, oldest, ownstreams
from runner.jetstream.publisher import retry_until
from runner.jetstream.pull import Pull, unopened
from runner.jetstream.refusal import refused
from runner.pipeline.pipeline import Pipeline
from runner.runtime.histories import START_SECONDS
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.functions")

WAIT_SECONDS = 1.0
"""Pause before this process asks again whether another instance needs a durable as it is."""


class Sources:
    """The durables of one function, and their pulls."""

    def __init__(
        self,
        runtime: Runtime,
        binding: Binding,
        stream: str,
        durable: str,
        pipeline: Pipeline,
        durables: Durables,
    ) -> None:
        self.pulls: dict[Pull, consumer.ConsumerConfig] = {}
        """The pulls that ask for messages, and the settings that each durable should have."""
        self.waits = ""
        """Why no message of the stream is read here for now."""
        self.blocked = ""
        """Why no message will be read until somebody does something about it."""
        self.waiting: dict[str, int] = {}
        """How many messages each durable of the stream has not delivered yet, as the server last said."""
        self.unacked: dict[str, int] = {}
        """How many messages each has delivered that are not settled, as the server last said."""
        self.lags: dict[str, float] = {}
        """How long the oldest undelivered message of each had waited then, in seconds."""
        self.drift = Drift()
        self._runtime = runtime
        self._connection = runtime.connection
        self._function = binding.function
        self._place = binding.place
        self._limit = binding.most
        self._stream = stream
        self._durable = durable
        self._queue = pipeline.queue
        self._watched = pipeline.pulls
        self._durables = durables
        self._reading = Reading(runtime, durables, binding, stream, durable)
        self._stranded = Stranded(runtime, binding.function)
        self._gone = unopened(runtime.connection, stream)
        """Holds messages that are in work here but that their stream has lost."""
        self._watched.append(self._gone)
        self._missing: set[Pull] = set()
        self._opened = False
        self._settling = anyio.Lock()
        self._standing: dict[Pull, dict[str, Any]] = {}
        """The settings of each durable when they were last put back."""
        self._left: list[Pull] = []
        """Closed pulls whose messages may still be in work."""

    @property
    def all(self) -> tuple[Pull, ...]:
        """All pulls that may hold messages of the function in work."""
        return (self._gone, *self._left, *self.pulls)

    async def open(self) -> None:
        """Start to ask for messages."""
        self._opened = True
        for pull in list(self.pulls):
            await pull.open()

    async def settle(self) -> None:
        """Read exactly the durables that the function's subject needs now. Raises JetrunnerError.

        If another instance needs a durable as it is, and goes before this one, no message is read until that instance has gone.
        """
        async with self._settling:
            if self._queue.giving_back:
                return
            self._forget_left()
            settle = partial(self._reading.settle, pulls=self._opened and bool(self._reads))
            try:
                found = await retry_until(settle, START_SECONDS, f"durable {self._durable}")
            except UsageError:
                raise
            except JetrunnerError as error:
                raise refused(self._place, self._durable, self._stream, error) from None
            sources = {
                each.wanted.durable_name: each
                for each in ([] if isinstance(found, WaitForInstance) else found)
            }
            for pull in self._reads:
                source = sources.pop(pull.durable, None)
                if source is None:
                    await self._leave(pull)
                else:
                    pull.original, self.pulls[pull] = source.original, source.wanted
            for source in sources.values():
                pull = await self.add(self._stream, source.wanted, self._limit)
                pull.original = source.original
                if self._opened:
                    await pull.open()
        if isinstance(found, WaitForInstance):
            why = f"instance {found.instance} reads {found.subject} with the durable {self._durable}"
            self._stand_by(why, ready=True)

    def reads(self, pull: Pull) -> str:
        """The subject, as published, of a pull's durable; empty if it has none."""
        wanted = self.pulls.get(pull)
        return wanted.metadata.get(SUBJECT, "") if wanted is not None else ""

    @property
    def _reads(self) -> list[Pull]:
        """The pulls from the function's own stream."""
        return [pull for pull in self.pulls if pull.stream == self._stream]

    async def _leave(self, pull: Pull) -> None:
        """Stop reading a durable; its messages in work end here."""
        del self.pulls[pull]
        self._left.append(pull)
        await pull.close()
        self._queue.give_back_of(pull)
        await self._stranded.leave(pull.stream, pull.durable)

    def _forget_left(self) -> None:
        for pull in [each for each in self._left if not each.newest().sequence]:  # its acks are sent, too
            self._left.remove(pull)
            self._watched.remove(pull)
            self._runtime.histories.of(pull.stream).remove(pull)

    def _stand_by(self, why: str, *, ready: bool = False) -> None:
        before, self.waits = self.waits, why
        self.blocked = "" if ready else why
        if why != before:
            log.warning("%s takes no messages now: %s", self._function, why)
        if not before:
            self._runtime.tasks.start_soon(self._wait)

    async def _wait(self) -> None:
        while not self._queue.giving_back:
            await anyio.sleep(WAIT_SECONDS)
            try:
                await self.settle()
            except JetrunnerError as error:
                self._stand_by(str(error))
            else:
                if self._reads:
                    log.info("%s goes on", self._function)
                    self.waits = self.blocked = ""
                    return

    async def _stray(self, durable: str) -> None:
        """Handle a filter that somebody has changed: messages that it leaves out are read with a durable beside it."""
        if self._settling.locked() or self._queue.giving_back:
            return
        log.warning("another client has changed the filter of durable %s", durable)
        try:
            await self.settle()
        except UsageError as error:
            for pull in self._reads:
                await self._leave(pull)
            self._stand_by(str(error))
        except JetrunnerError as error:  # the next look finds it again
            log.warning("%s: %s", self._function, error)

    async def _put_back(self, pull: Pull, wanted: consumer.ConsumerConfig, info: dict[str, Any]) -> None:
        """Put back a durable's settings if somebody has changed them."""
        if info["config"] == self._standing.get(pull):
            return  # the server did not take the settings back; that was logged once
        self._stranded.limited(pull.stream, pull.durable, info["config"])
        try:
            own = (
                pull.stream == self._stream
            )  # another filter is handled elsewhere: the messages that it leaves out are read
            found, _ = await consumer.ensure(self._connection, pull.stream, wanted, info, refilter=not own)
            self._standing[pull] = found["config"]
            self.drift.over(pull.stream, pull.durable)
        except ServerError as error:  # it is tried again at the next look
            self.drift.refused(pull.stream, pull.durable, error)
        except JetrunnerError as error:
            self._standing[pull] = info["config"]
            await self._refuse(pull, error)

    async def _refuse(self, pull: Pull, error: JetrunnerError) -> None:
        """Stop reading a durable that no function can read with, until it is another one."""
        log.error("%s: %s; %s", self._function, error, error.hint)
        if pull.stream == self._stream and pull in self.pulls:
            await self._leave(pull)
            self._stand_by(str(error))

    async def looked(self, pull: Pull, info: dict[str, Any], last: int) -> bool:
        """Whether a durable is as it should be, if its stream ends at `last`; if not, it is mended."""
        wanted = self.pulls.get(pull)
        if wanted is None:
            return False
        if pull.stream == self._stream:
            self.waiting[pull.durable], self.unacked[pull.durable] = (
                info["num_pending"],
                info["num_ack_pending"],
            )
            self.lags[pull.durable] = await oldest.waited(self._connection, self._stream, info)
        self.drift.look(pull.stream, info)
        if info["delivered"]["stream_seq"] > last:
            self._lost(pull)
            return False
        if pull.stream == self._stream and consumer.refiltered(info["config"], wanted):
            self._runtime.tasks.start_soon(self._stray, pull.durable)
            return False
        await self._put_back(pull, wanted, info)
        return True

    async def add(
        self,
        stream: str,
        wanted: consumer.ConsumerConfig,
        limit: int,
    ) -> Pull:
        """Make sure of a durable; its pull asks for messages once opened. Raises JetrunnerError."""
        await self._runtime.histories.begin(stream, self._runtime.floors)
        ensure = partial(self._durables.ensure, stream, wanted, refilter=stream != self._stream)
        try:
            info = await retry_until(ensure, START_SECONDS, f"durable {wanted.durable_name}")
        except JetrunnerError as error:
            raise refused(self._place, wanted.durable_name, stream, error) from None
        own = stream == self._stream
        arrive, ahead = (self._queue.arrive, MOST) if own else (self._queue.return_here, 0)
        pull = Pull(
            self._connection, stream, wanted.durable_name, limit, arrive, lambda: self._lost(pull), ahead
        )
        pull.gone = self._gone
        pull.doubted = partial(self._doubted, stream)
        self._runtime.histories.of(stream).add(pull)
        self.pulls[pull] = wanted
        await self._stranded.listen(wanted, stream)
        self._watched.append(pull)
        if own:
            self.waiting[wanted.durable_name] = info["num_pending"]
        return pull

    def _doubted(self, stream: str, message: Identity) -> None:
        history = self._runtime.histories.of(stream)
        history.doubt(message)
        self._runtime.tasks.start_soon(self._runtime.histories.look, history)

    def _lost(self, pull: Pull) -> None:
        """Called when the server says that the durable does not exist: it is made again."""
        wanted = self.pulls.get(pull)
        if wanted is not None and pull not in self._missing and not self._queue.giving_back:
            self._missing.add(pull)
            self._runtime.tasks.start_soon(self._recover, pull, wanted)

    async def _recover(self, pull: Pull, wanted: consumer.ConsumerConfig) -> None:
        news, wait = News(), 0.1
        while not self._queue.giving_back:
            try:
                if pull.stream == ownstreams.AGAIN:
                    await ownstreams.restore(self._connection, ownstreams.AGAIN)
                await self._durables.ensure(pull.stream, wanted, refilter=False)
                break
            except JetrunnerError as error:
                if pull.stream == self._stream and not isinstance(error, ServerError):
                    self._missing.discard(pull)
                    await self._refuse(pull, error)
                    return
                news.warn(log, "durable %s on %s: %s", pull.durable, pull.stream, error)
            await anyio.sleep(wait)
            wait = min(5.0, wait * 2)
        self._missing.discard(pull)
        pull.ask_again()
