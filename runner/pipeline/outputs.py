"""Outputs: the messages that a handler returned and published; they are stored before the input is acknowledged.

A single output of the common case is sent without waiting. All others go through `runner.pipeline.outbox`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner import codec
from runner.bindings import Binding
from runner.core import header, identity, parts
from runner.core.parts import Part
from runner.errors import ServerError, TooLarge
from runner.jetstream.delivery import Delivery
from runner.jetstream.inbox import Waiter
from runner.jetstream.place import Place
from runner.jetstream.publisher import read_ack
from runner.pipeline.message import Incoming
from runner.pipeline.outbox import Outbox, fences_of
from runner.runtime.runtime import Runtime
from runner.staged import Staged

_HEAD = b"NATS/1.0\r\nNats-Msg-Id: " + identity.FIRST_OUTPUT + b"\r\n"


class Outputs:
    """The outputs of one function."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._function = binding.function
        self._template = binding.output
        self._source = binding.subject
        self._generator = binding.kind.endswith("generator") and not binding.batch
        self._ordered = bool(binding.ordered_by)
        self._joins = binding.joins is not None
        self._marks_none = binding.marks_none
        self._wire_name = identity.durable(runtime.project, binding.function).encode()
        self.newest: tuple[Delivery, bytes, float] | None = None
        """The delivery of the newest output that was stored by `send`, its PubAck, and when that came, by the monotonic clock."""
        runtime.histories.sources.append(self._newest)
        self._parts: list[bytes | int] = []
        """The output subject: literal tokens, and the positions of the input's tokens that are copied."""
        if binding.output is not None and not self._generator:
            places = dict(zip(binding.subject.names, binding.subject.positions, strict=True))
            for token in binding.output.text.split("."):
                self._parts.append(places[token[1:-1]] if token.startswith("{") else token.encode())

    def collect(self, result: Any, staged: Iterable[Staged], incoming: Incoming) -> list[Staged]:
        """All outputs of one run, in order: the published messages, then the returned ones. Raises EncodeError."""
        made = list(staged)
        if self._template is None or result is None:
            return made
        target, stack = self._target(incoming), self._stack(incoming)
        if self._generator and len(stack) >= parts.DEEPEST:
            raise ValueError(
                f"a message is a part of {len(stack)} events within each other: {parts.DEEPEST} are the most"
            )
        if not self._generator:
            made.append(Staged(target, codec.encode(result), parts.write(stack)))
            return made
        batch, count = parts.batch_id(incoming.origin, self._wire_name.decode()), len(result)
        if count > parts.MOST:
            raise ValueError(f"a message is split into {count:,} parts: {parts.MOST:,} are the most")
        made.extend(
            Staged(target, codec.encode(item), parts.write((*stack, Part(batch, index, count))))
            for index, item in enumerate(result)
        )
        if not count and self._marks_none:
            made.append(Staged(target, b"", parts.write((*stack, Part(batch, 0, 0)))))
        return made

    def passed_on(self, incoming: Incoming) -> list[Staged] | None:
        """The outputs of a message that stands for an event without parts: the handler is not called. None for every other message."""
        stack = parts.read(incoming.delivery.header)
        if not stack or stack[-1].count > 0 or incoming.delivery.body:
            return None
        if self._joins:
            if stack[-1].count == 0:
                return None
            stack = stack[:-1]
        if self._template is None:
            return []
        if self._generator:
            stack = (*stack, Part(parts.batch_id(incoming.origin, self._wire_name.decode()), 0, -1))
        return [Staged(self._target(incoming), b"", parts.write(stack))]

    def _target(self, incoming: Incoming) -> str:
        assert self._template is not None
        joined = incoming.delivery.joined
        subject = (
            incoming.origin.subject if joined is None else joined.subject.decode(errors="surrogateescape")
        )
        return self._template.render(self._source.extract(subject))

    def _stack(self, incoming: Incoming) -> tuple[Part, ...]:
        """The events that a message's outputs are parts of: the same as the message's; for a joined event, those around it."""
        joined = incoming.delivery.joined
        return parts.read(incoming.delivery.header) if joined is None else parts.read(joined.header)[:-1]

    def send(self, delivery: Delivery, result: Any, stored: Waiter) -> bool:
        """Send a single output without waiting for its PubAck; `stored` is called once with the answer.

        False if it has to go the long way (`collect`, `store`), which also finds out what is wrong.
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
        here = delivery.subject.split(b".")
        subject = b".".join([here[part] if type(part) is int else part for part in self._parts])  # type: ignore[misc]
        head = _HEAD % (tokens[2], delivery.sequence, tokens[7], self._wire_name)
        if delivery.header is not None and parts.MARK in delivery.header:
            head += parts.lines(delivery.header)
        span = delivery.span
        if span is not None:
            sent = span.output(subject.decode(errors="surrogateescape"))
            try:
                head += header.encode(sent.headers)[len(b"NATS/1.0\r\n") : -len(b"\r\n")]
            except ValueError:  # a propagator that is not ours has made them
                return False
            delivery.sent = sent
        elif self._runtime.tracing.enabled:
            head += self._runtime.tracing.unsampled_lines(
                delivery.header, tokens[2], delivery.sequence, tokens[7]
            )
        fences = fences_of(delivery) if self._ordered else None
        try:
            if fences is not None and fences.main is not None:
                fences.main.send(subject, body, head, stored, delivery)
            else:
                self._runtime.connection.publisher.send(subject, body, head + b"\r\n", stored, delivery)
        except (TooLarge, ValueError):  # a subject that is too long
            return False
        return True

    def confirmed(self, delivery: Delivery, answer: bytes) -> None:
        """The PubAck of an output of `send` has arrived: end its span."""
        try:
            ack = read_ack(answer)
        except ServerError:
            delivery.sent.end()
        else:
            delivery.sent.end(stream=ack.stream, sequence=ack.seq)

    def _newest(self) -> tuple[str, Place, float] | None:
        if self.newest is None:
            return None
        delivery, answer, confirmed = self.newest
        tokens = delivery.reply.decode(errors="replace").split(".")
        try:
            ack = read_ack(answer)
        except ServerError:
            return None
        mark = f"{tokens[2]}:{delivery.sequence}.{tokens[7]}:{self._wire_name.decode()}:0"
        return tokens[2], Place(ack.stream, ack.seq, mark), confirmed

    async def store(self, made: list[Staged], incoming: Incoming) -> None:
        """Store outputs, each once, and return when all are confirmed; waits as long as a stream is full or out of reach.

        Raises `ServerError` for an error that waiting cannot mend. Its subclass `ShardLost` means that the outputs do not count.
        """
        await Outbox(self._runtime, self._function, made, incoming, ordered=self._ordered).store()
