"""Status: each instance answers what its functions have done; anybody may ask all instances."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from runner.core import holding, minutes
from runner.core.holding import Question
from runner.core.snapshot import Answering, FunctionPart, Snapshot
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.process.function import Function
from runner.process.minutes import Minutes
from runner.requests import view
from runner.requests.callee import Callee
from runner.runtime.snapshots import subject
from runner.services.responder import Responder


class Work(Struct, frozen=True):
    """The functions of this instance, and those that it asks."""

    functions: Sequence[Function]
    responders: Sequence[Responder]
    callees: Mapping[tuple[str, str], Callee]
    """The functions that this instance asks."""


class StatusAnswers:
    """Answers questions for the status of this instance."""

    def __init__(
        self,
        connection: Connection,
        project: str,
        instance: str,
        work: Work,
        minutes: Minutes,
    ) -> None:
        self._connection = connection
        self._project = project
        self._work = work
        self._minutes = minutes
        self._since = time.time()
        self.instance = instance
        """A name that no other process has: another container may have the same host name and process id."""

    async def open(self) -> None:
        """Start to answer; the subscription ends with the connection."""
        await self._connection.wire.subscribe(subject(self._project), self._asked)

    def _asked(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if reply:
            about = tolerant.read(holding.read, body, "a question about a message") if body else None
            self._connection.answer(reply, msgspec.json.encode(self.snapshot(about)))

    def snapshot(self, about: Question | None = None) -> Snapshot:
        """What this instance has done since its start, and what it holds of the message `about`."""
        now, refused = time.monotonic(), self._connection.inbox.denials.now().values()
        return Snapshot(
            self.instance,
            self._since,
            {
                each.binding.function: FunctionPart(
                    stream=each.stream,
                    durable=each.durable,
                    subject=each.binding.subject.wildcard,
                    ordered=bool(each.binding.ordered_by),
                    key_positions=each.binding.key_positions,
                    label=each.binding.label if each.binding.label != each.binding.function else None,
                    in_flight=each.unsettled,
                    delayed=each.shards.delayed if each.shards is not None else 0,
                    standing=[*each.intake.standing, *refused],
                    lag=each.intake.lag,
                    unkept=each.unkept,
                    throttled=each.throttled,
                    slots=each.binding.concurrency,
                    busy=each.busy,
                    parked_keys=each.shards.parked_keys if each.shards is not None else 0,
                    takeovers=minutes.buckets(each.stats.takeovers),
                    **each.pipeline.stats.snapshot(now),
                )
                for each in self._work.functions
            },
            {
                each.binding.function: Answering(
                    subject=each.binding.subject.wildcard,
                    in_flight=each.running,
                    slots=each.binding.concurrency,
                    queued=each.queued,
                    handled=each.stats.handled,
                    acked=each.stats.acked,
                    failed=each.stats.failed,
                    faulty=each.stats.faulty,
                    not_started={str(why): number for why, number in each.stats.not_started.items()},
                    rate=each.stats.rate(now),
                    duration=each.stats.duration.snapshot(),
                    extremes=each.stats.duration.extremes,
                )
                for each in self._work.responders
            },
            None
            if about is None
            else tuple(held for each in self._work.functions for held in each.intake.in_hands(about)),
            view.asked(self._work.callees, now),
            self._minutes.number,
            self._minutes.so_far(),
        )
