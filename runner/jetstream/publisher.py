"""The publisher: it stores messages in streams, each confirmed by its PubAck; several as one atomic batch are in `batches`.

Rule 1: the size with headers and the length of the subject are checked here, because nats-py checks neither. The server drops a
        connection that sends too much, and nats-py would then close for good.
Rule 2: a Msg-Id makes a publish safe to repeat. Without one, a publish whose answer is lost is not repeated.
Rule 3: a caller that names the stream it means is told if another stream refuses (`Elsewhere`): subjects may be moved between
        streams at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import anyio
import msgspec

from runner.core import checked
from runner.core import header as headers
from runner.core import subject as subjects
from runner.core.checked import Count, Unfit
from runner.errors import (
    Elsewhere,
    Incomplete,
    NoResponders,
    NoStream,
    ServerError,
    StreamFull,
    TooLarge,
    Unconfirmed,
)
from runner.jetstream import codes
from runner.jetstream.inbox import Inbox, Waiter, ask

log = logging.getLogger("jetrunner.publisher")

T = TypeVar("T")

Doubt: TypeAlias = Callable[[], Awaitable[None]]

CONFIRM_SECONDS = 5.0
MORE_SERVERS = "start the other servers, or ask for fewer replicas: each replica needs a server of its own"
ROOM = "raise the limits of the stream or of the account, or let the stream discard old messages"
ROOM_TO_RESERVE = (
    "raise the limits of the account, or of the server's storage; or let streams reserve less (max_bytes)"
)


class ApiError(msgspec.Struct):
    """The server's error; `err_code` says exactly which."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """The server's confirmation that a message is stored."""

    stream: str = ""
    seq: Count = 0
    duplicate: bool = False
    error: ApiError | None = None


class Outgoing(msgspec.Struct, frozen=True):
    """One message to send: subject, encoded body, header pairs (including the Msg-Id)."""

    subject: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


decode_ack = checked.json(PubAck)


class Publisher:
    """Publishes over the wire, and gives each waiter its PubAck."""

    def __init__(self, wire: Any, inbox: Inbox, max_payload: Callable[[], int]) -> None:
        self._wire = wire
        self._limit = wire.limit
        self._inbox = inbox
        self._max_payload = max_payload

    def check_size(self, subject: str, size: int) -> None:
        """Raise `TooLarge` if headers and body, `size` bytes together, cannot be sent."""
        limit = self._max_payload()
        if size > limit:
            raise TooLarge(
                f"a message to {subject} has {size} bytes with its headers; the server takes {limit}",
                hint="send less, or raise max_payload on the server",
            )

    def send(self, subject: bytes, body: bytes, header: bytes, waiter: Waiter, argument: Any) -> None:
        """Publish without waiting; the waiter is called once, and `is_stored` tells what it got.

        The subject came in a frame, or was checked. Raises `TooLarge`, and ValueError if the subject is too long.
        """
        if len(subject) > self._limit.longest:
            self._limit.require(subject)
        if len(body) + len(header) > self._max_payload():
            self.check_size(subject.decode(errors="replace"), len(body) + len(header))
        self._wire.publish_known(
            subject, body, self._inbox.expect(waiter, argument, subject, CONFIRM_SECONDS), header
        )

    async def publish(
        self,
        subject: str,
        body: bytes,
        pairs: Sequence[tuple[str, str]] = (),
        *,
        timeout: float = CONFIRM_SECONDS,
        stream: str = "",
    ) -> PubAck:
        """Publish once and wait for the PubAck, of any stream. Raises the `ServerError` family, and ValueError for a bad subject."""
        reason = subjects.problem(subject)
        if reason:
            raise ValueError(f"cannot publish to {subject[:80]!r}: {reason}")
        header = headers.encode(list(pairs)) if pairs else b""
        return await self.publish_block(subject, body, header, timeout=timeout, stream=stream)

    async def publish_block(
        self, subject: str, body: bytes, header: bytes, *, timeout: float = CONFIRM_SECONDS, stream: str = ""
    ) -> PubAck:
        """Publish once, with an encoded header block, to a subject that was checked."""
        self.check_size(subject, len(body) + len(header))
        _, answer = await ask(self._inbox, self._wire, subject.encode(), body, timeout, header)
        return self.read(subject, answer, stream)

    def read(self, subject: str, answer: bytes, stream: str = "") -> PubAck:
        """Read a PubAck, or raise the error in it; refusals of our own writes are noted."""
        denials = self._inbox.denials
        try:
            ack = read_ack(answer, stream)
        except ServerError as error:
            denials.note(subject, error)
            raise
        denials.taken(subject)
        return ack

    async def publish_surely(
        self, message: Outgoing, patience: float, stream: str = "", doubt: Doubt | None = None
    ) -> PubAck:
        """Publish a message that has a Msg-Id, again and again until it is confirmed.

        For `patience` seconds temporary errors are retried: a lost answer or connection, a full stream, a stream without a leader.
        After that the last error is raised; any other error is raised at once.
        """
        return await retry_until(
            lambda: self.publish(message.subject, message.body, message.headers, stream=stream),
            patience,
            f"a message to {message.subject}",
            doubt,
        )


def is_stored(answer: bytes) -> bool:
    """Whether an answer is a PubAck without an error; `read_ack` reads any other answer."""
    return b'"error"' not in answer and b'"stream"' in answer


def read_ack(body: bytes, stream: str = "", room: str = ROOM) -> PubAck:
    """Read a PubAck, or raise the error in it: as `Elsewhere` if it comes from another stream than the one that is meant.

    `room` says what helps where there is no room.
    """
    try:
        ack = decode_ack(body)
    except Unfit:
        # A subscriber that is not a stream has answered the publish. A stream may have stored the message, too; its answer comes later.
        raise NoStream(
            "the answer is not a PubAck: something other than a stream answers on the subject"
        ) from None
    if ack.error is None:
        return ack
    error = ack.error
    text = error.description or f"error {error.err_code}"
    if stream and ack.stream not in {"", stream}:
        raise Elsewhere(f"{ack.stream}, not {stream}: {text}", code=error.err_code)
    if error.err_code == codes.STORE_FAILED and text == codes.TOO_LARGE_TEXT:
        hint = "send less: a stream on file storage takes 32 MiB at most, headers and all"
        raise TooLarge(text, code=error.err_code, hint=hint)
    if error.err_code in codes.TOO_LARGE:
        raise TooLarge(text, code=error.err_code, hint="raise the stream's max_msg_size")
    if error.err_code in codes.FULL:
        raise StreamFull(text, code=error.err_code, hint=room)
    hint = MORE_SERVERS if error.err_code in codes.FEW_SERVERS else ""
    raise ServerError(text, code=error.err_code, hint=hint)


def may_pass(error: ServerError) -> bool:
    """Whether the same publish may succeed later without anybody changing it."""
    if isinstance(error, Elsewhere):
        return False
    return unanswered(error) or isinstance(error, (StreamFull, NoStream)) or error.code in codes.BUSY


def in_doubt(error: ServerError) -> Unconfirmed:
    """The error of a publish that brought no PubAck: the stream may have stored the message, or not."""
    return Unconfirmed(str(error), hint="it may be stored, or not: look before you send it again")


def unled(error: ServerError) -> bool:
    """Whether the stream may only have no leader that answers: nobody has heard the message, or has made a decision."""
    return unanswered(error) or isinstance(error, NoResponders)


def unanswered(error: ServerError) -> bool:
    """Whether no decision was made: no answer came, or the cluster has no leader."""
    return isinstance(error, (Unconfirmed, Incomplete)) or error.code in codes.UNDECIDED


class LongWait:
    """Tells of a wait in the log: after 1 s, and each time it has become four times as long."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = anyio.current_time()
        self._told = 1.0

    @property
    def seconds(self) -> float:
        """How long the wait is by now."""
        return anyio.current_time() - self._began

    def tell(self, error: ServerError) -> None:
        """Tell what is waited for, if it is time to."""
        if self._what and self.seconds > self._told:
            self._told *= 4
            log.warning("%s: no success for %.0f s yet: %s", self._what, self.seconds, error)


async def retry_until(
    attempt: Callable[[], Awaitable[T]],
    patience: float,
    what: str = "",
    doubt: Doubt | None = None,
    passes: Callable[[ServerError], bool] = may_pass,
) -> T:
    """Await `attempt()` until it succeeds, for `patience` seconds, with pauses from 50 ms to 2 s, while its error `passes`.

    If no answer came, `doubt` finds out whether one can come at all, and raises if not.
    """
    waiting = LongWait(what)
    wait = 0.05
    while True:
        try:
            return await attempt()
        except ServerError as error:
            if doubt is not None and isinstance(error, Unconfirmed):
                await doubt()
            if not passes(error) or waiting.seconds + wait > patience:
                raise
            waiting.tell(error)
        await anyio.sleep(wait)
        wait = min(2.0, wait * 2)
