"""The context: what a handler may know about its message, and what it may send.

Rule 1: `publish` encodes a message at once and stages it; the message is sent only when the handler has succeeded.
Rule 2: a value that takes time to compute is computed when it is first read, and then kept.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from runner.core import firing, header, identity
from runner.core.balancer import Policy
from runner.core.cron import Schedule
from runner.core.subject import Template
from runner.host import Host, require_timeout
from runner.ownlog import FunctionLog
from runner.staged import DONE, Staged, due, stage

if TYPE_CHECKING:  # a default for a type variable: typing has none before Python 3.13
    from typing_extensions import TypeVar as Defaulted

    State = Defaulted("State", default=Any)
else:
    State = TypeVar("State")
T = TypeVar("T")
M = TypeVar("M")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Context(Generic[State]):
    """The message that a handler works on, and the handler's way to publish and to ask.

    One context belongs to one attempt. `publish` works in `def` handlers too, where there is nothing to await.
    `Context[Shop]` gives `state` the type of the lifespan's value; a plain `Context` has Any.
    """

    __slots__ = (
        "_clock", "_expires", "_given", "_headers", "_host", "_know", "_log", "_made", "_message",
        "_params", "_scheduled", "_sealed", "_template", "_timestamp", "attempt", "attempts", "function",
        "key", "messages", "missing", "sequence", "shard", "state", "stream", "subject",
    )  # fmt: skip

    attempt: int
    """The number of this delivery of the message, from 1. One that was lost in a crash or given back counts, too, except in ordered functions."""
    attempts: int
    """The most runs a message gets."""
    function: str
    """Name of the function."""
    key: str | None
    """The key that the message is ordered by; None for functions that are not ordered."""
    messages: tuple[Context[State], ...]
    """In a batch, the context of each message, in the order of the list; empty for a single message."""
    missing: tuple[int, ...]
    """In a function with `@gather`, the indexes of the parts that never came."""
    sequence: int
    """The message's sequence in its stream."""
    shard: int | None
    """The number of the message's shard; None for functions that are not ordered."""
    state: State
    """What the project's lifespan yielded."""
    stream: str
    """Name of the stream the message stands in."""
    subject: str
    """The subject the message was published to."""

    def __init__(
        self,
        *,
        function: str,
        subject: str,
        template: Template | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | bytes | None = None,
        attempt: int = 1,
        attempts: int = 1,
        stream: str = "",
        sequence: int = 0,
        timestamp_ns: int = 0,
        expires: float = math.inf,
        key: str | None = None,
        shard: int | None = None,
        state: State = None,  # type: ignore[assignment]  # of a project without a lifespan
        missing: tuple[int, ...] = (),
        messages: tuple[Context[State], ...] = (),
        scheduled: Schedule | datetime | None = None,
        host: Host | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The runner makes a context for each attempt; `runner.testing.context` makes one for a test.

        `headers` may be the raw block. `params` are by default the tokens that `template` finds in `subject`. `expires` is a reading
        of `clock`. If `scheduled` is a schedule, the headers tell which firing this is.
        """
        self.function, self.subject = function, subject
        self.attempt, self.attempts = attempt, attempts
        self.stream, self.sequence = stream, sequence
        self.key, self.shard = key, shard
        self.state, self.missing, self.messages = state, missing, messages
        self._know: Callable[[Any], dict[str, Any]] | None = None
        self._message: Any = None
        self._made: list[Staged] | None = None
        self._template = template
        self._params, self._scheduled = params, scheduled
        self._given = headers
        self._headers: Mapping[str, str] | None = None
        self._timestamp, self._expires = timestamp_ns, expires
        self._host, self._clock = host, clock
        self._log: logging.LoggerAdapter[logging.Logger] | None = None
        self._sealed = False

    @classmethod
    def about(cls, message: M, attempt: int, know: Callable[[M], dict[str, Any]]) -> Context[Any]:
        """Make a context that asks `know` for the fields above when one is first read; until then it costs little."""
        context = cls.__new__(cls)
        context.attempt = attempt  # `message` does not tell: it is the same in the next attempt
        context._message = message  # noqa: SLF001  # it is a context
        context._know = know  # noqa: SLF001
        context._made = None  # noqa: SLF001
        context._sealed = False  # noqa: SLF001
        return context

    if not TYPE_CHECKING:  # else a type checker would accept every name

        def __getattr__(self, name: str) -> Any:
            """Fill the empty fields; Python calls this only when one is empty."""
            if name not in _FILLED or (know := self._know) is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            known = Context(**know(self._message))
            for each in _FILLED:
                try:
                    object.__getattribute__(self, each)
                except AttributeError:  # a field that was set meanwhile stays
                    setattr(self, each, getattr(known, each))
            return getattr(self, name)

    def __copy__(self, _: Any = None) -> Context[State]:
        """The context itself: messages that a copy published would be lost."""
        return self

    __deepcopy__ = __copy__

    def __repr__(self) -> str:
        # Headers and state stay out: they may hold secrets.
        return f"<Context {self.function} {self.message_id} {self.subject!r} attempt {self.attempt}/{self.attempts}>"

    @property
    def params(self) -> Mapping[str, str]:
        """The subject's tokens by name."""
        if self._params is None:
            self._params = self._template.extract(self.subject) if self._template else {}
        return self._params

    @property
    def headers(self) -> Mapping[str, str]:
        """The message's headers; a repeated one has its first value here, and all in `header_values`."""
        if self._headers is None:
            self._headers = given if isinstance(given := self._given, Mapping) else header.parse(given or b"")
        return self._headers

    def header_values(self, name: str) -> tuple[str, ...]:
        """All values of a header, in order, whatever the case of its name; empty when there is none."""
        given, name = self._given, name.lower()
        pairs = given.items() if isinstance(given, Mapping) else header.pairs(given or b"")
        return tuple(value for each, value in pairs if each.lower() == name)

    @property
    def timestamp(self) -> datetime:
        """When the stream stored the message, in UTC."""
        return _EPOCH + timedelta(microseconds=self._timestamp // 1_000)

    @property
    def scheduled(self) -> datetime:
        """When this firing was due, in the time zone of its schedule. RuntimeError in a function without `@cron`."""
        if self._scheduled is None:
            raise RuntimeError(
                f"{self.function} has no schedule: only functions with @cron are due at some time"
            )
        if isinstance(self._scheduled, datetime):
            return self._scheduled
        return firing.due(self._scheduled, self.headers, self._timestamp)

    @property
    def message_id(self) -> str:
        """`STREAM:SEQUENCE`: the same in every attempt, so it serves as an idempotency key outside NATS.

        A request stands in no stream: its id is the `Nats-Msg-Id` that the asker gave, else empty.
        """
        if not self.stream:
            return next(iter(self.header_values("Nats-Msg-Id")), "")
        return identity.message_id(self.stream, self.sequence)

    @property
    def deadline(self) -> float:
        """Seconds left until this attempt times out; never below 0."""
        return max(0.0, self._expires - self._clock())

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger `jetrunner.functions.<function>`; its records carry function, message_id and attempt."""
        if self._log is None:
            fields = {"function": self.function, "message_id": self.message_id, "attempt": self.attempt}
            self._log = FunctionLog(logging.getLogger(f"jetrunner.functions.{self.function}"), fields)
        return self._log

    def publish(
        self,
        subject: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> Awaitable[None]:
        """Publish when the handler succeeds; nothing is sent when it fails.

        `delay` is in seconds, `at` a time with a timezone. ValueError for what cannot be published; RuntimeError
        once the handler has returned.
        """
        if self.messages:
            raise RuntimeError("a batch publishes by its messages: ctx.messages[index].publish(…)")
        if self._sealed:
            raise RuntimeError(f"{self!r}: the handler has returned; what is published now would be lost")
        self.staged.append(
            stage(subject, body, headers, due(delay, at, self._host.now if self._host else time.time))
        )
        return DONE

    @property
    def staged(self) -> list[Staged]:
        """The messages published so far."""
        if self._made is None:
            self._made = []
        return self._made

    def count_staged(self) -> int:
        """The number of messages published so far."""
        return len(self._made) if self._made is not None else 0

    def seal(self) -> list[Staged] | None:
        """End publishing; returns the staged messages in order, or None. The runner calls it when the handler has returned."""
        self._sealed = True
        return self._made

    @overload
    async def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: type[T],
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> T: ...

    @overload
    async def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Any: ...

    async def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Any:
        """Ask a service, and decode its answer to `returns`; without `returns` as plain JSON, and an empty answer to None.

        `timeout` is in seconds; by default, and at most, it is the time left until the deadline. `policy` says how one of several
        instances is chosen, as in `runner.client.App.request`. Raises `ServiceError`, `NoResponders` and `Unconfirmed`, ValueError
        for a message that cannot be sent, DecodeError for an answer that does not fit `returns`.
        """
        if self._host is None:
            raise RuntimeError("this context has no connection to ask through")
        asked = stage(subject, body, headers, None)
        left = self.deadline if timeout is None else min(self.deadline, require_timeout(timeout))
        of = self._given if isinstance(self._given, bytes) else b""
        ask = self._host.request
        reply = await ask(asked.subject, asked.body, asked.headers, left, policy=policy, sent_in=of)
        return reply.decode(returns)


_FILLED = frozenset(Context.__slots__) - {"_know", "_made", "_message", "_sealed"}
