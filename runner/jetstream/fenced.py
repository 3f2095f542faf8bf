"""Writes into one stream under one fence: the server refuses each of them once the fence has moved.

Rule 1: the server checks a fence when a message arrives. In a replicated stream it refuses a message that arrives while another
        write under the same fence is not stored yet. There, only one write is in flight, and those that queue meanwhile go as one
        atomic batch. In other streams writes are pipelined, which costs no round trip.
Rule 2: the messages of one handler go together. If a batch of several handlers is refused, each handler's messages go again by
        themselves: a single duplicate Msg-Id, or a single message too large, would keep out all others. The same is done if another
        stream refuses the batch, because a subject was moved there and this fence says nothing of that stream.
Rule 3: if one message of a handler stands already, each of them is written by itself, in their order: the others may be missing.
        After an incomplete batch the next try asks for an answer to each message, and the first error that tells why counts.
Rule 4: each entry's waiter is called once, with the PubAck or the error. At WRONG_LAST_SEQUENCE no waiter is called: `refused` is
        called, and all entries wait until the fence is set again (`hold`), or is lost (`fail`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.checked import Unfit
from runner.errors import ServerError, TooLarge
from runner.jetstream import batches, codes
from runner.jetstream.connection import Connection
from runner.jetstream.inbox import Waiter
from runner.jetstream.publisher import CONFIRM_SECONDS, decode_ack, is_stored, read_ack

PAUSE_SECONDS = 0.005
INCOMPLETE_TRIES = 3
"""After so many tries a batch that stays incomplete is taken to have subjects of several streams by now."""
BATCH_BYTES = 1 << 20
ROOM = 160
"""Most bytes that an atomic batch adds to a message's headers."""

Message = tuple[bytes, bytes, bytes]
"""Subject, body, and header lines from `NATS/1.0` on, without the empty line at their end."""


class FencedWrite:
    """Messages that go together, and their waiter."""

    __slots__ = ("alone", "argument", "incomplete", "messages", "reason", "size", "waiter")

    def __init__(self, messages: Sequence[Message], size: int, waiter: Waiter, argument: Any) -> None:
        self.messages = messages
        self.size = size
        self.waiter = waiter
        self.argument = argument
        self.alone = False
        """Whether it must not go with others, because it was refused together with them."""
        self.incomplete = 0
        """How many times its batch was incomplete."""
        self.reason: tuple[bytes, ServerError | None] | None = None
        """The first answer that tells why its batch is incomplete."""


class FencedWriter:
    """All writes of one shard into one stream."""

    def __init__(
        self, connection: Connection, stream: str, *, serial: bool, atomic: bool, refused: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._publisher = connection.publisher
        self._inbox = connection.inbox
        self._wire = connection.wire
        self._connection = connection
        self._refused = refused
        self._serial = serial
        self._atomic = atomic
        self._held = False
        self._head = b""
        self._waiting: deque[FencedWrite] = deque()
        self._flying = 0
        self._paused = False
        self._error: ServerError | None = None

    def hold(self, expect: bytes) -> None:
        """Write under these header lines from now on; empty lines mean no fence."""
        self._head = expect
        self._held = True
        self._pump()

    def wait(self) -> None:
        """Write nothing until the fence is set."""
        self._held = False

    def fail(self, error: ServerError) -> None:
        """The fence is lost for good: give all waiters the error, now and later."""
        self._error = error
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            entry.waiter(entry.argument, None, b"", error)

    def send(self, subject: bytes, body: bytes, head: bytes, waiter: Waiter, argument: Any) -> None:
        """Write one message without waiting. Raises `TooLarge`, and ValueError if the subject is too long.

        Where writes are pipelined, the waiter gets any answer of the server, also a refusal by the fence.
        """
        if self._held and not self._serial:
            self._publisher.send(subject, body, head + self._head + b"\r\n", waiter, argument)
        else:
            self.put(((subject, body, head),), waiter, argument)

    def put(self, messages: Sequence[Message], waiter: Waiter, argument: Any) -> None:
        """Write messages that belong together. Raises as `send` does; the waiter gets all other results."""
        size, extra = 0, len(self._head) + (ROOM if len(messages) > 1 else 2)
        for subject, body, head in messages:
            if len(subject) > self._wire.limit.longest:
                self._wire.limit.require(subject)
            own = len(body) + len(head) + extra
            if own > self._connection.max_payload:
                self._publisher.check_size(subject.decode(errors="replace"), own)
            size += own
        if self._error is not None:
            waiter(argument, None, b"", self._error)
            return
        self._waiting.append(FencedWrite(messages, size, waiter, argument))
        self._pump()

    # -- writing ----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._waiting and self._held and not self._paused and not (self._serial and self._flying):
            group = self._next()
            self._flying += 1
            messages = [message for entry in group for message in entry.messages]
            if len(messages) == 1:
                subject, body, head = messages[0]
                try:
                    self._publisher.send(subject, body, head + self._head + b"\r\n", self._answered, group)
                except TooLarge as error:  # the fence's number has more digits than when it was queued
                    self._answered(group, None, b"", error)
                except ValueError as error:  # the server takes less than was known
                    self._answered(group, None, b"", ServerError(str(error)))
            else:
                self._send_batch(messages, group)

    def _next(self) -> tuple[FencedWrite, ...]:
        waiting = self._waiting
        first = waiting.popleft()
        group, count, size = [first], len(first.messages), first.size
        if self._serial and self._atomic and not first.alone:
            room = self._connection.max_payload - ROOM
            while waiting and not waiting[0].alone and first.size <= room and waiting[0].size <= room:
                count += len(waiting[0].messages)
                size += waiting[0].size
                if count > batches.LIMIT or size > BATCH_BYTES:
                    break
                group.append(waiting.popleft())
        return tuple(group)

    def _send_batch(self, messages: Sequence[Message], group: tuple[FencedWrite, ...]) -> None:
        """Send a batch at once: only the commit's answer counts, because the server takes one connection's messages in order.

        If the batch was incomplete before, the answers to the others tell why.
        """
        publish, last = self._wire.publish_known, len(messages)
        batch = b"Nats-Batch-Id: %b\r\nNats-Batch-Sequence: " % secrets.token_hex(16).encode()
        fence, reply = self._head, b""
        for number, (subject, body, head) in enumerate(messages, 1):
            if number < last:
                if group[0].incomplete:
                    reply = self._inbox.expect(_note, group[0], subject, CONFIRM_SECONDS)
                publish(subject, body, reply, b"%b%b%b%d\r\n\r\n" % (head, fence, batch, number))
                fence = b""  # the first message's fence counts for all
            else:
                reply = self._inbox.expect(self._answered, group, subject, CONFIRM_SECONDS)
                commit = b"%b%b%b%d\r\nNats-Batch-Commit: 1\r\n\r\n" % (head, fence, batch, number)
                publish(subject, body, reply, commit)

    def _answered(
        self, group: tuple[FencedWrite, ...], header: bytes | None, answer: bytes, error: ServerError | None
    ) -> None:
        self._flying -= 1
        if error is not None:
            self._tell(group, header, answer, error)
        elif is_stored(answer):
            self._stored(group, header, answer)
        else:
            self._refuse(group, header, answer)
        self._pump()

    def _refuse(self, group: tuple[FencedWrite, ...], header: bytes | None, answer: bytes) -> None:
        code, stream = refusal(answer)
        if code == codes.BATCH_INCOMPLETE:
            group[0].incomplete += 1
            if group[0].reason is not None:
                answer, error = group[0].reason
                group[0].reason = None
                if error is not None:
                    self._tell(group, None, b"", error)
                    return
                code, stream = refusal(answer)
        if stream not in {"", self._stream} or group[0].incomplete >= INCOMPLETE_TRIES:
            group[0].incomplete = 0
            if len(group) > 1:
                self._again(group, alone=True)
            else:
                self._tell(group, header, answer, None)
        elif code == codes.WRONG_LAST_SEQUENCE:
            self._again(group)
            if self._held:
                self._held = False
                self._refused()
        elif code in codes.BUSY:
            self._serial = self._serial or code == codes.WRONG_LAST_SEQUENCE_YET
            self._again(group, alone=code == codes.BATCH_INCOMPLETE)
            if not self._paused:
                self._paused = True
                asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._resume)
        elif len(group) > 1:
            self._again(group, alone=True)
        elif code == codes.BATCH_DUPLICATE and len(group[0].messages) > 1:
            self._write_part(group[0], 0)
        else:
            self._tell(group, header, answer, None)

    def _write_part(self, entry: FencedWrite, number: int) -> None:
        """Write one message of an entry by itself, and then the next; a refusal by the fence holds up the rest, too."""
        part = FencedWrite((entry.messages[number],), entry.size, self._part_answered, (entry, number))
        self._again((part,), alone=True)

    def _part_answered(
        self,
        part: tuple[FencedWrite, int],
        header: bytes | None,
        answer: bytes,
        error: ServerError | None,
    ) -> None:
        entry, number = part
        if error is None and is_stored(answer) and number + 1 < len(entry.messages):
            self._write_part(entry, number + 1)
        else:
            entry.waiter(entry.argument, header, answer, error)

    def _resume(self) -> None:
        self._paused = False
        self._pump()

    def _again(self, group: tuple[FencedWrite, ...], *, alone: bool = False) -> None:
        for entry in reversed(group):
            entry.alone |= alone
            self._waiting.appendleft(entry)
        if self._error is not None:
            self.fail(self._error)

    def _stored(self, group: tuple[FencedWrite, ...], header: bytes | None, answer: bytes) -> None:
        if len(group) == 1:
            self._tell(group, header, answer, None)
            return
        try:
            last = decode_ack(answer).seq
        except Unfit:  # not an answer of the server
            self._again(group, alone=True)
            return
        first = last + 1 - sum(len(entry.messages) for entry in group)
        for entry in group:
            first += len(entry.messages)
            told = b'{"stream":"%b","seq":%d}' % (self._stream.encode(), first - 1)
            entry.waiter(entry.argument, header, told, None)

    def _tell(
        self, group: tuple[FencedWrite, ...], header: bytes | None, answer: bytes, error: ServerError | None
    ) -> None:
        for entry in group:
            entry.waiter(entry.argument, header, answer, error)


def _note(entry: FencedWrite, _: bytes | None, answer: bytes, error: ServerError | None) -> None:
    """Note the first answer that tells why an entry's batch is incomplete."""
    if error is None and answer:
        try:
            read_ack(answer)
        except ServerError as refused:
            if not batches.is_incomplete(refused):
                entry.reason = entry.reason or (answer, None)
    elif error is not None and not batches.is_incomplete(error):
        entry.reason = entry.reason or (b"", error)


def refusal(answer: bytes) -> tuple[int, str]:
    """The error code in an answer, and the stream that it comes from; 0 if it is not an error of a stream."""
    try:
        ack = decode_ack(answer)
    except Unfit:
        return 0, ""
    return ack.error.err_code if ack.error is not None else 0, ack.stream
