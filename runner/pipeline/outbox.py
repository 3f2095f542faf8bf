"""The outbox: the outputs of one run, on their way into their streams.

Rule 1: an output's Msg-Id derives from its input and its number within its stream: stored again, it is a duplicate.
Rule 2: the outputs for one stream are stored together, as one atomic batch; more than 1,000 in chunks.
Rule 3: if a stream is full or out of reach, or the server cannot tell which stream it is, the outbox waits. An error that waiting
        cannot mend fails the attempt. So does a stream that confirms nothing, even for a delayed output: the wait would never end.
Rule 4: an ordered function's outputs go under its shard's fence, if the stream holds one: then the server refuses the outputs of an
        instance that has lost the shard.
Rule 5: the subjects of streams may change at any time. If an answer shows that, the outputs that are left are planned again. With
        several streams, each output names the stream that it expects, and another stream refuses it: there it would need another
        number. For the same reason, once a part of the outputs is stored, the others keep their first numbers and streams, on which
        their ids depend.
Rule 6: what a handler expects of its stream (`Nats-Expected-Last-…`) fails the attempt under a fence and among several outputs. The
        server would compare it with the fence's subject, or with the outputs before it, and refuse it for ever.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from functools import partial

from runner.core import batch, fence, header, identity
from runner.core.batch import Batch
from runner.errors import Elsewhere, NoConfirmation, ServerError, ShardLost
from runner.jetstream import codes
from runner.jetstream.delivery import Delivery
from runner.jetstream.place import Place
from runner.jetstream.publisher import LongWait, Outgoing, PubAck, unanswered
from runner.pipeline import delayed
from runner.pipeline.fence import Fences
from runner.pipeline.message import Incoming
from runner.runtime.runtime import Runtime
from runner.staged import Staged

PLANS = 5
"""How often the outputs of one run are planned before the attempt fails."""
CHANGEABLE = frozenset({codes.BATCH_DISABLED, codes.TTL_DISABLED})
"""Errors that may come from a stream's settings as they were: they are read again, once."""
_OF_INPUT = ("nats-expected-", "nats-schedule")
"""Headers that say something of the input's own stream, or of the schedule that it comes from; lower case."""
_OF_FIRING = (*_OF_INPUT, "nats-ttl")
UNKNOWN_SECONDS = 1.0
"""The pause before the server is asked again for the stream of an output."""
EXPECTS = "nats-expected-last-"


class PendingOutput:
    """One output, and its number if that is fixed; else empty."""

    __slots__ = ("number", "staged")

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self.number = ""


class Outbox:
    """The outputs of one run that are not stored yet."""

    def __init__(
        self, runtime: Runtime, function: str, made: Iterable[Staged], incoming: Incoming, *, ordered: bool
    ) -> None:
        self._runtime = runtime
        self._function = function
        self._left = [PendingOutput(staged) for staged in made]
        self._last = self._left[-1] if self._left else None
        self.stored: tuple[str, PubAck] | None = None
        """The stream of the last output, and its PubAck."""
        self._incoming = incoming
        self._fences = fences_of(incoming.delivery) if ordered else None
        block = incoming.delivery.header
        self._inherited = frozenset(header.pairs(block)) if block is not None else frozenset()
        fired = any(name == "Nats-Scheduler" for name, _ in self._inherited)
        self._of_input = _OF_FIRING if fired else _OF_INPUT

    async def store(self) -> None:
        """Store all outputs, each once, and return when all are confirmed. Raises as `Outputs.store`."""
        topology = self._runtime.topology
        plans = 0
        waiting = LongWait(f"outputs to {self._left[0].staged.subject}") if self._left else LongWait("")
        while True:
            version = topology.version
            try:
                await self._store_all()
                return
            except ServerError as error:
                # No answer about the streams; each write waits for its own.
                if unanswered(error) and not isinstance(error, Elsewhere):
                    self._require_owned()
                    waiting.tell(error)
                    await asyncio.sleep(UNKNOWN_SECONDS)
                    continue
                # An incomplete batch is stored at some later time, and is not the handler's fault.
                plans += error.code != codes.BATCH_INCOMPLETE
                changed = error.code in CHANGEABLE or isinstance(error, NoConfirmation)
                most = PLANS if isinstance(error, Elsewhere) else 2 if changed else 0
                if plans >= most:
                    raise
                waiting.tell(error)
            await topology.renew(version)

    async def _store_all(self) -> None:
        """Store the outputs by the streams as they are known now."""
        process, origin, delivery = self._runtime, self._incoming.origin, self._incoming.delivery
        placed: list[tuple[str, PendingOutput]] = []
        for output in self._left:
            # A delayed output is checked, too: once it is due, nobody could be told of an error.
            stream = await process.topology.find(output.staged.subject)
            process.topology.require_confirmation(stream)
            if output.staged.at is not None:
                pairs = self._given(output.staged, ())
                delayed.require_ttl(pairs, stream, process.topology.config(stream))
            placed.append((delayed.STREAM if output.staged.at is not None else stream, output))
        passed_on: list[tuple[str, str]] = []
        if delivery.span is None and process.tracing.enabled:
            passed_on = process.tracing.unsampled_headers(
                delivery.header, origin.stream, origin.sequence, origin.timestamp_ns
            )
        several = len({stream for stream, _ in placed}) > 1
        groups = batch.plan(placed)
        for group in groups:
            self._check_expectations(group)
        for at, group in enumerate(groups):
            try:
                await self._store_group(group, passed_on, several=several)
            except ServerError:
                if at:
                    self._keep(groups[at:])
                raise

    def _check_expectations(self, group: Batch[PendingOutput]) -> None:
        """Raise if a handler expects something of a stream where that cannot hold."""
        fenced = self._fences is not None and fence.holds(self._runtime.topology.config(group.stream))
        if group.stream == delayed.STREAM or not (fenced or group.atomic):
            return
        for output in group.outputs:
            for pair in output.staged.headers.items():
                name = pair[0]
                if name.lower().startswith(EXPECTS) and pair not in self._inherited:
                    where = "under the fence of an ordered function" if fenced else "among several outputs"
                    # The text holds the hint: of an attempt's error nothing else is shown.
                    raise ServerError(
                        f"{name} cannot be used {where}: publish to {output.staged.subject} alone, "
                        "from a function without ordered_by"
                    )

    def _require_owned(self) -> None:
        """Raise `ShardLost` if the outputs do not count any more."""
        if self._fences is not None and self._incoming.delivery.settled:
            raise ShardLost("its message is settled, or the stream has lost it")

    def _keep(self, groups: list[Batch[PendingOutput]]) -> None:
        """Keep the outputs of these groups with their numbers and streams: others are stored, whose numbers a new plan could reuse."""
        for group in groups:
            for index, output in group.numbered():
                output.number = output.number or f"{index}@{group.stream}"
        rest = {id(output) for group in groups for output in group.outputs}
        self._left = [output for output in self._left if id(output) in rest]

    async def _store_group(
        self, group: Batch[PendingOutput], passed_on: list[tuple[str, str]], *, several: bool
    ) -> None:
        process, origin, span = self._runtime, self._incoming.origin, self._incoming.delivery.span
        if group.atomic and not process.topology.config(group.stream).get("allow_atomic"):
            raise ServerError(
                f"{len(group.outputs)} outputs go into stream {group.stream}, which allows no atomic batches",
                code=codes.BATCH_DISABLED,
                hint="set allow_atomic = true on the stream",
            )
        messages, spans = [], []
        for index, output in group.numbered():
            staged = output.staged
            output_id = identity.output_id(
                origin.stream,
                origin.sequence,
                origin.timestamp_ns,
                process.project,
                self._function,
                output.number or index,
            )
            carried = passed_on
            if span is not None:
                delay = (
                    staged.at.timestamp() - process.connection.clock.now() if staged.at is not None else 0.0
                )
                sent = span.output(staged.subject, group.stream, delay=max(0.0, delay))
                spans.append(sent)
                carried = sent.headers
            pairs = (*self._given(staged, carried), *carried)
            if staged.at is not None:
                process.connection.wire.limit.require(staged.subject.encode())  # nobody could be told later
                messages.append(delayed.schedule(process.project, staged, output_id, pairs))
                continue
            if several:
                pairs = (*pairs, ("Nats-Expected-Stream", group.stream))
            messages.append(Outgoing(staged.subject, staged.body, (*pairs, ("Nats-Msg-Id", output_id))))
        try:
            ack = await self._publish(group.stream, messages)
        except BaseException as error:
            for sent in spans:
                sent.end(error=error)
            raise
        if group.outputs[-1] is self._last:
            self.stored = ack.stream or group.stream, ack
        if ack.seq and not ack.duplicate:
            mark = dict(messages[-1].headers).get("Nats-Msg-Id", messages[-1].subject)
            process.histories.of(self._incoming.stream).stored.note(
                Place(ack.stream or group.stream, ack.seq, mark)
            )
        for sent in spans:
            sent.end(stream=ack.stream or group.stream, sequence=ack.seq if len(spans) == 1 else 0)

    async def _publish(self, stream: str, messages: list[Outgoing]) -> PubAck:
        standing = await self._fences.of(stream) if self._fences is not None else None
        self._require_owned()
        topology = self._runtime.topology
        doubt = partial(topology.doubt, [message.subject for message in messages])
        if standing is not None:
            return await standing.store(messages, doubt)
        ack = await self._runtime.connection.batches.store(messages, math.inf, stream, doubt)
        if ack.stream not in {"", stream}:
            topology.outdated = True
        return ack

    def _given(self, staged: Staged, carried: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The handler's headers for an output, without ids, batches, traces, expectations and firings that it has copied from its input."""
        ours = {name.lower() for name, _ in carried}
        return [
            pair
            for pair in header.unplaced(staged.headers.items())
            if pair[0].lower() not in ours
            and not (pair in self._inherited and pair[0].lower().startswith(self._of_input))
        ]


def fences_of(delivery: Delivery) -> Fences | None:
    """The fences of the shard that a delivery came from; None if it came from no shard."""
    found: Fences | None = getattr(delivery.source, "fences", None)
    return found
