"""A context for tests, without NATS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from runner import batches, codec
from runner.context import Context, State
from runner.core import header
from runner.core.balancer import Policy
from runner.host import Reply

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STORED = datetime(2020, 1, 1, tzinfo=UTC)


def context(
    *,
    subject: str = "test",
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    attempt: int = 1,
    attempts: int = 5,
    stream: str = "TEST",
    sequence: int = 1,
    timestamp: datetime = _STORED,
    deadline: float = 30.0,
    key: str | None = None,
    shard: int | None = None,
    state: State = None,  # type: ignore[assignment]  # of a project without a lifespan
    missing: tuple[int, ...] = (),
    scheduled: datetime | None = None,
    function: str = "test",
    replies: Mapping[str, Any] | Callable[[str, bytes], Any] | None = None,
    messages: Sequence[Context[State]] = (),
) -> Context[State]:
    """A context to call a handler with; the messages that the handler publishes are in `.staged`, each with its encoded `body`.

    For a handler of batches give `messages` alone: contexts that were made like this, one for each message. Each of them has the
    messages that were published by it. The batch's own context has the fields of the first one.

    In `headers` a header with several values has a list. `deadline` stays at that many seconds. `replies` answers `ctx.request`: by
    subject, or as a function of subject and body; an answer that is an exception is raised. ValueError when `timestamp` or
    `scheduled` has no timezone.
    """
    if messages:
        options = dict(locals())
        if more := [name for name in _DEFAULTS if name != "messages" and options[name] != _DEFAULTS[name]]:
            raise ValueError(f"{more[0]}= is told by the contexts of the messages: give it to these")
        return batches.context_of(tuple(messages))
    for name, given in (("timestamp", timestamp), ("scheduled", scheduled)):
        if given is not None and given.tzinfo is None:
            raise ValueError(f"{name}={given} has no timezone")
    return Context(
        function=function,
        subject=subject,
        params=dict(params or {}),
        headers=header.encode(pairs(headers)) if headers else None,
        attempt=attempt,
        attempts=attempts,
        stream=stream,
        sequence=sequence,
        timestamp_ns=round((timestamp - _EPOCH).total_seconds() * 1_000_000) * 1_000,
        expires=deadline,
        key=key,
        shard=shard,
        state=state,
        missing=missing,
        scheduled=scheduled,
        host=GivenReplies(replies),
        clock=lambda: 0.0,
    )


_DEFAULTS: Mapping[str, Any] = context.__kwdefaults__ or {}


def pairs(headers: Mapping[str, str | Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Name and value of each header; a name with several values comes with each of them."""
    for name, given in headers.items():
        for value in [given] if isinstance(given, str) else given:
            yield name, value


class GivenReplies:
    """Stands in for the connection, and answers with the replies that the test gives."""

    def __init__(self, replies: Mapping[str, Any] | Callable[[str, bytes], Any] | None) -> None:
        self._replies = replies or {}

    def now(self) -> float:
        """Unix time in seconds, by our own clock."""
        return time.time()

    async def request(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
        *,
        policy: Policy | None = None,
        sent_in: bytes | None = None,
    ) -> Reply:
        """The answer that the test gave for this subject. Raises LookupError without one."""
        if callable(self._replies):
            answer = self._replies(subject, body)
        elif subject in self._replies:
            answer = self._replies[subject]
        else:
            raise LookupError(f"no reply for {subject!r}: give context(replies={{{subject!r}: …}})")
        if isinstance(answer, BaseException):
            raise answer
        return Reply(codec.encode(answer))
