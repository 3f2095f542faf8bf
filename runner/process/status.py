"""Status: each instance answers what its functions have done; anybody may ask all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from runner.consumers.function import Function
from runner.core import holding, minutes
from runner.core.holding import Question
from runner.core.snapshot import Answering, Part, Snapshot
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.ordered.function import OrderedFunction
from runner.process.minutes import Minutes
from runner.requests import view
from runner.requests.target import Target
from runner.runtime.snapshots import subject
from runner.services.responder import Responder


class Work(Struct, frozen=True):
    """What this instance has to do."""

    functions: Sequence[Function]
    responders: Sequence[Responder]
    targets: Mapping[tuple[str, str], Target]
    """The functions that it asks."""


class StatusAnswers:
    """Answers for this instance."""

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
        """The name of this process alone: host and process id may be those of another container, too."""

    async def open(self) -> None:
        """Start to answer; the subscription ends with the connection."""
        await self._connection.wire.subscribe(subject(self._project), self._asked)

    def _asked(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if reply:
            about = tolerant.read(holding.read, body, "a question about a message") if body else None
            self._connection.answer(reply, msgspec.json.encode(self.snapshot(about)))

    def snapshot(self, about: Question | None = None) -> Snapshot:
        """What this instance has done since its start, and what it has of the message that is asked about."""
        now, refused = time.monotonic(), self._connection.inbox.denials.now().values()
        return Snapshot(
            self.instance,
            self._since,
            {
                each.binding.function: Part(
                    stream=each.stream,
                    durable=each.durable,
                    subject=each.binding.subject.wildcard,
                    ordered=bool(each.binding.ordered_by),
                    key_positions=each.binding.key_positions,
                    label=each.binding.label if each.binding.label != each.binding.function else None,
                    in_flight=each.unsettled,
                    delayed=each.delayed,
                    standing=[*each.standing, *refused],
                    lag=each.lag,
                    unkept=each.unkept,
                    throttled=bool(each.throttled),
                    slots=each.binding.concurrency,
                    busy=each.busy,
                    parked_keys=each.parked_keys if isinstance(each, OrderedFunction) else 0,
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
            else tuple(held for each in self._work.functions for held in each.in_hands(about)),
            view.asked(self._work.targets, now),
            self._minutes.number,
            self._minutes.so_far(),
        )
