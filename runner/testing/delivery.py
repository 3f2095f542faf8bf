"""A message through a function's real binding, without a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, structs

from runner import arguments, codec
from runner.bindings import Binding, binding_of
from runner.core import firing
from runner.core.answered import answered, responded
from runner.core.settlement import Ack, Failed, Nak, Outcome, Succeeded, settle
from runner.errors import UsageError
from runner.pipeline.local import Made, Message, subject_of
from runner.pipeline.local import attempt as _attempt
from runner.pipeline.localbatch import Behind, Together
from runner.staged import Staged
from runner.testing.around import surrounded
from runner.testing.contexts import GivenReplies, pairs

MIDDLE = 0.5
"""The luck that a jittered wait is told with: half of what it may be."""


class Delivered(Struct, frozen=True, kw_only=True):
    """What became of a message, and what its handler has made."""

    outcome: Literal["ack", "retry", "dead_letter", "error", "waits"]
    """Of a request: `ack` where it was answered with a result, else `error`. Of a message in a batch: `waits` where it is not done,
    since one before it, of its key, has failed. Of a batch: `ack`, or that of the first message which has another."""
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
    """Of a request: the code of its answer, 200 where it has a result, or the status of its response; 0 of every message."""
    reply: bytes = b""
    """Of a request: the body of its answer; of a generator with `@route`, its events."""
    messages: tuple[Delivered, ...] = ()
    """Of a batch: what became of each message, in order; empty of a single one."""


async def deliver(
    function: Callable[..., Any],
    subject: str | Sequence[str] | None = None,
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

    `subject` is needed where the function reads many; of `@route` it is `"GET /orders/42?limit=3"`; bytes are the body as they are, every other value is encoded as
    JSON. `attempt` counts from 1. `scheduled` is when a firing of `@cron` was due: without, the last time before now. A function with `@gather` takes a list of its
    parts as the body; `missing` are the indexes of those that did not come. A function with `batch=` takes a list of bodies, which
    come for the first time and are called together, with one subject or as many; anything else is a single message, called as a
    batch of one. A batch that fails is called again in smaller ones, as a process does. `state` is what the lifespan would have yielded; `replies` answers `ctx.request`, by
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
    elif binding.batch and isinstance(body, (list, tuple)):
        messages = _batch(binding, subject, body, given, attempt)
        return await _together(binding, messages, state, GivenReplies(replies))
    else:
        data = _bytes(body)
    if subject is not None and not isinstance(subject, str):
        raise UsageError("several subjects are for a list of bodies of a function with batch=")
    message = Message(subject_of(binding, subject), data, given, attempt, missing)
    made = await _attempt(binding, message, state, GivenReplies(replies))
    return _delivered(binding, message.attempt, made)


def _bytes(body: Any) -> bytes:
    return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else codec.encode(body)


def _batch(
    binding: Binding,
    subject: str | Sequence[str] | None,
    bodies: Sequence[Any],
    headers: Sequence[tuple[str, str]],
    number: int,
) -> list[Message]:
    """The messages of a batch. Raises UsageError for what is never called together."""
    if number > 1 and len(bodies) > 1:
        raise UsageError(
            "a message that comes again is called alone", hint=f"deliver one body with attempt={number}"
        )
    if not 1 <= len(bodies) <= binding.batch:
        raise UsageError(
            f"{binding.function} is called with 1 to {binding.batch:,} messages, and these are {len(bodies):,}"
        )
    subjects = [subject] * len(bodies) if subject is None or isinstance(subject, str) else [*subject]
    if len(subjects) != len(bodies):
        raise UsageError(
            f"{len(subjects)} subjects for {len(bodies)} bodies", hint="give one for all, or one each"
        )
    return [
        Message(subject_of(binding, name), _bytes(body), headers, number)
        for name, body in zip(subjects, bodies, strict=True)
    ]


async def _together(
    binding: Binding, messages: Sequence[Message], state: Any, answers: GivenReplies
) -> Delivered:
    batch = Together(binding, messages, state, answers)
    await batch.run()
    each = tuple(_delivered(binding, messages[0].attempt, ended) for ended in batch.ended)
    first = next((one for one in each if one.outcome != "ack"), each[0])
    return structs.replace(
        first,
        result=None if first.outcome != "ack" else [one.result for one in each],
        outputs=tuple(output for one in each for output in one.outputs),
        messages=each,
    )


def bound(function: Callable[..., Any]) -> Binding:
    """The binding of a function. Raises UsageError where it has none."""
    binding = binding_of(function)
    if binding is None:
        raise UsageError(
            f"{getattr(function, '__name__', function)!r} is no function of the runner",
            hint="give what is decorated with @consume, @reply, @route, @cron or @gather, as it is imported",
        )
    return binding


def _delivered(binding: Binding, number: int, made: Made | Outcome | Behind) -> Delivered:
    if isinstance(made, Behind):
        return Delivered(outcome="waits", message="one before it, of its key, has failed: it runs after that")
    outcome: Outcome = Succeeded() if isinstance(made, Made) else made
    error = outcome.error if isinstance(outcome, Failed) else None
    if not binding.consumes:
        if not isinstance(made, Made):
            answer = answered(outcome) if binding.route is None else responded(outcome)
            return Delivered(outcome="error", error=error, message=answer.text, code=answer.code)
        outputs = (*made.published, *made.outputs)
        return Delivered(
            outcome="ack", result=made.result, outputs=outputs, code=made.code, reply=made.answer
        )
    match settle(outcome, number, binding.retry, MIDDLE):
        case Ack():
            assert isinstance(made, Made)
            return Delivered(outcome="ack", result=made.result, outputs=(*made.published, *made.outputs))
        case Nak(delay):
            return Delivered(outcome="retry", error=error, delay=delay)
        case dead:
            return Delivered(outcome="dead_letter", reason=dead.reason, error=error, message=dead.message)
