"""Delivers a message to a function through its real binding, without a server."""

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
from runner.pipeline.local import LocalMessage, Made, subject_of
from runner.pipeline.local import attempt as _attempt
from runner.pipeline.localbatch import Behind, LocalBatch
from runner.staged import Staged
from runner.testing.around import surrounded
from runner.testing.contexts import GivenReplies, pairs

MIDDLE = 0.5
"""The random number for a wait with jitter: the middle of its range."""


class Delivered(Struct, frozen=True, kw_only=True):
    """What became of a message, with the result and the outputs of its handler."""

    outcome: Literal["ack", "retry", "dead_letter", "error", "waits"]
    """For a request: `ack` if its answer is a result, else `error`. For a message in a batch also `waits`: it is not done, since an
    earlier message of its key has failed. For a batch: `ack`, or the outcome of the first message with another one."""
    reason: str = ""
    """Why there is a dead letter: `rejected`, `undecodable`, `exhausted` or `timeout`; empty for every other outcome."""
    error: BaseException | None = None
    """The exception that the handler raised."""
    message: str = ""
    """Why the message is a dead letter, in words; for a request, the text of the error that its asker gets."""
    delay: float | None = None
    """Seconds before the next attempt; the middle of what the policy's jitter allows."""
    result: Any = None
    """The value that the handler returned; for a generator, the list of its items."""
    outputs: tuple[Staged, ...] = ()
    """The messages that would be stored, in order: those of `ctx.publish`, then the returned values with `output=`."""
    code: int = 0
    """For a request: the code of its answer, 200 with a result, or the status of its response; 0 for every message."""
    reply: bytes = b""
    """For a request: the body of its answer; for a generator with `@route`, its events."""
    messages: tuple[Delivered, ...] = ()
    """For a batch: what became of each message, in order; empty for a single message."""


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

    `subject` is needed if the function reads many subjects; for `@route` it is a request as `"GET /orders/42?limit=3"`. A body of
    bytes is taken as it is, every other value is encoded as JSON. `attempt` counts from 1. `scheduled` is when a firing of `@cron`
    was due: by default the last time before now. `state` is the value that the lifespan would yield. `replies` answers
    `ctx.request`: by subject, or as a function of subject and body. Hooks of the function's own module (`scope="module"`) run
    around it; hooks of the project do if `around` gives them.

    A function with `@gather` takes a list of parts as the body; `missing` are the indexes of the parts that did not come. A function
    with `batch=` takes a list of bodies, with one subject or as many: these messages come for the first time, and are called
    together. Any other body is a single message, called as a batch of one. A batch that fails is called again in smaller ones, as
    in a process. Raises UsageError for anything but a function of the runner, and for a subject that the function does not read.
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
    message = LocalMessage(subject_of(binding, subject), data, given, attempt, missing)
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
) -> list[LocalMessage]:
    """The messages of a batch. Raises UsageError for messages that are never called together."""
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
        LocalMessage(subject_of(binding, name), _bytes(body), headers, number)
        for name, body in zip(subjects, bodies, strict=True)
    ]


async def _together(
    binding: Binding, messages: Sequence[LocalMessage], state: Any, answers: GivenReplies
) -> Delivered:
    batch = LocalBatch(binding, messages, state, answers)
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
            f"{getattr(function, '__name__', function)!r} is not a function of the runner",
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
