"""A message through a function's real binding, without a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from runner import arguments, codec
from runner.bindings import Binding, binding_of
from runner.core import firing
from runner.core.answered import answered
from runner.core.settlement import Ack, Failed, Nak, Outcome, Succeeded, settle
from runner.errors import UsageError
from runner.pipeline.local import Made, Message, attempt, subject_of
from runner.staged import Staged
from runner.testing.around import surrounded
from runner.testing.contexts import GivenReplies, pairs

MIDDLE = 0.5
"""The luck that a jittered wait is told with: half of what it may be."""


class Delivered(Struct, frozen=True, kw_only=True):
    """What became of a message, and what its handler has made."""

    outcome: Literal["ack", "retry", "dead_letter", "error"]
    """Of a request: `ack` where it was answered with a result, else `error`."""
    reason: str = ""
    """Of the dead letter: `rejected`, `undecodable`, `exhausted` or `timeout`; empty for every other outcome."""
    error: BaseException | None = None
    """What the handler raised."""
    message: str = ""
    """Why it is a dead letter, in words; of a request, what its asker is told."""
    delay: float | None = None
    """Seconds before the next attempt; the middle of what the policy's jitter allows."""
    result: Any = None
    """What the handler returned; of a generator, the list of its items."""
    outputs: tuple[Staged, ...] = ()
    """What would be stored, in order: what was published with `ctx.publish`, then what was returned with `output=`."""
    code: int = 0
    """Of a request: the code of its answer, 200 where it has a result; 0 of every message."""
    reply: bytes = b""
    """Of a request: the body of its answer."""


async def deliver(
    function: Callable[..., Any],
    subject: str | None = None,
    body: Any = b"",
    *,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    attempt: int = 1,
    scheduled: datetime | None = None,
    missing: tuple[int, ...] = (),
    state: Any = None,
    replies: Mapping[str, Any] | Callable[[str, bytes], Any] | None = None,
    around: Sequence[Callable[..., Any]] = (),
) -> Delivered:
    """Decode a message as the runner would, call the function once, and tell what would become of the message.

    `subject` is needed where the function reads many; bytes are the body as they are, every other value is encoded as
    JSON. `attempt` counts from 1. `scheduled` is when a firing of `@cron` was due: without, the last time before now. A function with `@gather` takes a list of its
    parts as the body; `missing` are the indexes of those that did not come. `state` is what the lifespan would have yielded; `replies` answers `ctx.request`, by
    subject or as a function of subject and body. Hooks of the function's own module (`scope="module"`) run around it; those of the
    project do where `around` gives them. Raises UsageError for what is no function, and for a subject that it
    does not read.
    """
    [binding] = surrounded([bound(function)], around)
    given = tuple(pairs(headers or {}))
    if scheduled is not None:
        given += ((firing.DUE, scheduled.isoformat()),)
    if binding.joins is not None and isinstance(body, (list, tuple)):
        data = arguments.join((False, codec.encode(each)) for each in body)
    else:
        data = bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else codec.encode(body)
    return await _delivered(
        binding,
        Message(subject_of(binding, subject), data, given, attempt, missing),
        state,
        GivenReplies(replies),
    )


def bound(function: Callable[..., Any]) -> Binding:
    """The binding of a function. Raises UsageError where it has none."""
    binding = binding_of(function)
    if binding is None:
        raise UsageError(
            f"{getattr(function, '__name__', function)!r} is no function of the runner",
            hint="give what is decorated with @consume, @reply, @cron or @gather, as it is imported",
        )
    return binding


async def _delivered(binding: Binding, message: Message, state: Any, answers: GivenReplies) -> Delivered:
    made = await attempt(binding, message, state, answers)
    outcome: Outcome = Succeeded() if isinstance(made, Made) else made
    error = outcome.error if isinstance(outcome, Failed) else None
    if binding.answers is not None:
        answer = answered(outcome)
        if not isinstance(made, Made):
            return Delivered(outcome="error", error=error, message=answer.text, code=answer.code)
        outputs = tuple(made.published)
        return Delivered(
            outcome="ack", result=made.result, outputs=outputs, code=answer.code, reply=made.answer
        )
    match settle(outcome, message.attempt, binding.retry, MIDDLE):
        case Ack():
            assert isinstance(made, Made)
            return Delivered(outcome="ack", result=made.result, outputs=(*made.published, *made.outputs))
        case Nak(delay):
            return Delivered(outcome="retry", error=error, delay=delay)
        case dead:
            return Delivered(outcome="dead_letter", reason=dead.reason, error=error, message=dead.message)
