"""Outputs: what a handler returned and published, stored before its input is acknowledged.

Rule 1: an output's Msg-Id derives from its input and its number within its stream: stored again, it is a duplicate.
Rule 2: what goes into one stream goes together, as one atomic batch; over 1,000 in chunks.
Rule 3: a stream that is full or away is waited for; what waiting cannot mend is the handler's failure.
Rule 4: an ordered function's outputs go under its shard's fence, where the stream holds one: those of an instance that
        has lost the shard are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from runner import codec
from runner.bindings import Binding
from runner.core import batch, header, identity
from runner.engine import delayed
from runner.engine.fence import Fences
from runner.engine.incoming import Incoming
from runner.engine.process import Process
from runner.errors import ServerError, TooLarge
from runner.jetstream.delivery import Delivery
from runner.jetstream.inbox import Waiter
from runner.jetstream.publisher import Outgoing
from runner.staged import Staged


class Outputs:
    """The outputs of one function."""

    def __init__(self, process: Process, binding: Binding) -> None:
        self._process = process
        self._function = binding.function
        self._template = binding.output
        self._source = binding.subject
        self._generator = binding.kind.endswith("generator")
        self._ordered = bool(binding.ordered_by)
        self._wire_name = identity.durable(process.project, binding.function).encode()
        self._parts: list[bytes | int] = []
        """The output subject: literal tokens, and places of the input subject's."""
        if binding.output is not None and not self._generator:
            places = dict(zip(binding.subject.names, binding.subject.positions, strict=True))
            for token in binding.output.text.split("."):
                self._parts.append(places[token[1:-1]] if token.startswith("{") else token.encode())

    def collect(self, result: Any, staged: Iterable[Staged], subject: str) -> list[Staged]:
        """Everything one run has made, in order: what was published, then what was returned. Raises EncodeError."""
        made = list(staged)
        if self._template is None or result is None:
            return made
        target = self._template.render(self._source.extract(subject))
        items = result if self._generator else (result,)
        made.extend(Staged(target, codec.encode(item)) for item in items)
        return made

    def send(self, delivery: Delivery, result: Any, stored: Waiter) -> bool:
        """Send a single output without waiting for its PubAck; `stored` is called once with the answer.

        False when it has to go the long way (`collect`, `store`), which also finds out what is wrong.
        """
        if delivery.settled:
            return True  # its shard was lost while the handler ran: this run's outputs are nobody's
        tokens = delivery.reply.split(b".")
        if self._generator or len(tokens) != 9:
            return False
        try:
            body = codec.encode(result)
        except codec.EncodeError:
            return False
        parts = delivery.subject.split(b".")
        subject = b".".join([parts[part] if type(part) is int else part for part in self._parts])  # type: ignore[misc]
        head = b"NATS/1.0\r\nNats-Msg-Id: %b:%d.%b:%b:0\r\n" % (
            tokens[2], delivery.sequence, tokens[7], self._wire_name,
        )  # fmt: skip
        if self._process.tracing.enabled:
            for name, value in self._process.tracing.unsampled_headers(
                None, tokens[2].decode(), delivery.sequence, int(tokens[7])
            ):
                head += f"{name}: {value}\r\n".encode()
        fences = fences_of(delivery) if self._ordered else None
        try:
            if fences is not None and fences.main is not None:
                fences.main.send(subject, body, head, stored, delivery)
            else:
                self._process.connection.publisher.send(subject, body, head + b"\r\n", stored, delivery)
        except TooLarge:
            return False
        return True

    async def store(self, made: list[Staged], incoming: Incoming) -> None:
        """Store them, each once, and return when all are confirmed; waits as long as a stream is full or away.

        Raises `ServerError` for what waiting cannot mend, and its kind `ShardLost`: then they are nobody's.
        """
        process, origin, span = self._process, incoming.origin, incoming.delivery.span
        placed: list[tuple[str, Staged]] = []
        for staged in made:
            # Of a delayed one, too: when its time has come nobody could be told.
            stream = await process.topology.find(staged.subject)
            placed.append((delayed.STREAM if staged.at is not None else stream, staged))
        fences = fences_of(incoming.delivery) if self._ordered else None
        passed_on: list[tuple[str, str]] = []
        if span is None and process.tracing.enabled:
            passed_on = process.tracing.unsampled_headers(
                incoming.delivery.header, origin.stream, origin.sequence, origin.timestamp_ns
            )
        for group in batch.plan(placed):
            if group.atomic and not process.topology.config(group.stream).get("allow_atomic"):
                raise ServerError(
                    f"{len(group.outputs)} outputs go into stream {group.stream}, which allows no atomic batches",
                    hint="set allow_atomic = true on the stream",
                )
            messages, spans = [], []
            for index, staged in group.numbered():
                output_id = identity.output_id(
                    origin.stream,
                    origin.sequence,
                    origin.timestamp_ns,
                    process.project,
                    self._function,
                    index,
                )
                carried = passed_on
                if span is not None:
                    delay = (staged.at - datetime.now(UTC)).total_seconds() if staged.at is not None else 0.0
                    sent = span.output(staged.subject, group.stream, delay=max(0.0, delay))
                    spans.append(sent)
                    carried = sent.headers
                pairs = (*given(staged, carried), *carried)
                if staged.at is not None:
                    messages.append(delayed.schedule(process.project, staged, output_id, pairs))
                else:
                    messages.append(
                        Outgoing(staged.subject, staged.body, (*pairs, ("Nats-Msg-Id", output_id)))
                    )
            try:
                fence = await fences.of(group.stream) if fences is not None else None
                if fence is not None:
                    ack = await fence.store(messages)
                else:
                    ack = await process.connection.publisher.publish_together(messages, math.inf)
            except BaseException as error:
                for sent in spans:
                    sent.end(error=error)
                raise
            for sent in spans:
                sent.end(stream=group.stream, sequence=ack.seq if len(spans) == 1 else 0)


def given(staged: Staged, carried: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that a handler gave, who may have passed its input's on: never an output_id, a batch or a trace of another's."""
    ours = {name.lower() for name, _ in carried}
    return [pair for pair in header.unplaced(staged.headers.items()) if pair[0].lower() not in ours]


def fences_of(delivery: Delivery) -> Fences | None:
    """The fences of the shard that a delivery came from; None for one that came from no shard."""
    found: Fences | None = getattr(delivery.source, "fences", None)
    return found
