"""One attempt without a server: from a message's bytes to the handler's result and outputs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from runner import arguments, batches, codec
from runner.bindings import Binding
from runner.context import Context
from runner.core import header, identity
from runner.core.answered import ACCEPTED, NO_CONTENT, OK
from runner.core.redaction import MSGPACK
from runner.core.settlement import Failed, Outcome, TimedOut, Undecodable
from runner.core.subject import matches, problem, unfilled
from runner.errors import UsageError
from runner.pipeline.around import surrounded
from runner.pipeline.awaited import finished
from runner.responses import event, rendered
from runner.signature import Kind
from runner.staged import Staged
from runner.targets import target_of


class LocalMessage(Struct, frozen=True):
    """A message that is in no stream."""

    subject: str
    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    attempt: int = 1
    missing: tuple[int, ...] = ()
    """For a function that joins parts: the indexes of the missing parts."""

    @property
    def is_msgpack(self) -> bool:
        """Whether its body is MessagePack, by its headers."""
        return any(name.lower() == "content-type" and value == MSGPACK for name, value in self.headers)

    @property
    def takes_msgpack(self) -> bool:
        """Whether the sender accepts MessagePack as the answer over HTTP."""
        return any(name.lower() == "accept" and MSGPACK in value for name, value in self.headers)


class Made(Struct, frozen=True):
    """The results of an attempt that succeeded."""

    result: Any
    outputs: list[Staged]
    """The returned value, or each item of a generator, for the subject of `output=`."""
    published: list[Staged]
    """The messages published by `ctx.publish`."""
    seconds: float
    answer: bytes = b""
    """For a function that answers requests: the body of its answer."""
    code: int = 0
    """For such a function: the code of its answer."""


def subject_of(binding: Binding, given: str | None, option: str = "subject") -> str:
    """The subject that a message comes on. `given` may be None if the function reads a single subject; `option` is the option's name.

    Raises UsageError for a subject that the function does not read.
    """
    if given is None and binding.schedule is not None:
        return identity.tick_subject("local", binding.function)
    if binding.route is not None:
        return _asked(binding, given, option)
    if given is None:
        if not binding.subject.is_literal:
            raise UsageError(
                f"{binding.function} reads {binding.subject.text}, which is many subjects",
                hint=f"give one with {option}",
            )
        return binding.subject.text
    if why := problem(given):
        raise UsageError(f"{option} {given!r}: {why}")
    if unfilled(given):
        raise UsageError(f"{option} {given!r} has a token that was not filled in", hint="give one subject")
    if not matches(binding.subject.wildcard, given):
        raise UsageError(f"{binding.function} reads {binding.subject.text}, and {given} is none of those")
    return given


def _asked(binding: Binding, given: str | None, option: str) -> str:
    """Method and path of a request to a function that answers HTTP requests: `GET /orders/42?limit=3`."""
    assert binding.route is not None
    asked = binding.route.text if given is None else given
    if target_of(binding.route, asked) is None:
        raise UsageError(
            f"{option} {asked!r}: {binding.function} answers {binding.route.text}, and nothing else"
        )
    if given is None and binding.route.names:
        raise UsageError(
            f"{binding.function} answers {binding.route.text}, which is many paths",
            hint=f"give one with {option}",
        )
    return asked


def parts_of(body: bytes) -> bytes:
    """A JSON array as the joined parts that a function is called with. Raises DecodeError; joined parts stay as they are."""
    if not body.lstrip().startswith(b"["):
        return body
    try:
        return arguments.join(
            (False, bytes(each)) for each in msgspec.json.decode(body, type=list[msgspec.Raw])
        )
    except ValueError as error:
        raise codec.explain(error) from None


def context_of(
    binding: Binding, message: LocalMessage, state: Any = None, host: Any = None, *, sequence: int = 1
) -> Context[Any]:
    """The context of a message; a request has no place in a stream."""
    target = target_of(binding.route, message.subject) if binding.route is not None else None
    return Context(
        function=binding.function,
        subject=message.subject.partition("?")[0] if target is not None else message.subject,
        template=binding.subject,
        params=target.params if target is not None else None,
        headers=header.encode(message.headers) if message.headers else None,
        attempt=message.attempt,
        attempts=binding.retry.attempts,
        stream="LOCAL" if binding.consumes else "",
        sequence=sequence if binding.consumes else 0,
        timestamp_ns=time.time_ns(),
        expires=time.monotonic() + binding.timeout,
        state=state,
        scheduled=binding.schedule,
        missing=message.missing,
        host=host,
    )


async def attempt(
    binding: Binding, message: LocalMessage, state: Any = None, host: Any = None
) -> Made | Outcome:
    """Call a function as a running process would; `state` is what the lifespan yielded, `host` answers `ctx.request`."""
    context = context_of(binding, message, state, host)
    try:
        call = arguments.compile_call(binding, with_context=bool(binding.around))
        target = target_of(binding.route, message.subject) if binding.route is not None else None
        subject = message.subject.encode(errors="surrogateescape")
        body = parts_of(message.body) if binding.joins is not None else message.body
        given = call.bind(target or subject, body, message.is_msgpack, context)
    except Exception as error:  # noqa: BLE001  a type's own validation may raise anything
        return Undecodable(codec.explain(error))
    started = time.perf_counter()
    scope = anyio.move_on_after(binding.timeout)
    try:
        with scope:
            result = await _called(binding, call, given)
        if scope.cancelled_caught:
            return TimedOut(binding.timeout)
        items = result if binding.kind.endswith("generator") or result is None else [result]
        outputs = outputs_of(binding, items or [], message.subject)
        answer, code = b"", 0
        if binding.route is not None:
            code, answer = _responded(binding, result, message)
        elif binding.answers is not None:
            code = OK
            answer = b"" if result is None else codec.encode(result, msgpack=message.is_msgpack)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  sys.exit in a handler is a failed attempt, too
        if scope.cancel_called and isinstance(error, asyncio.CancelledError):
            # Python 3.11's TaskGroup leaves its task marked as being cancelled: then the scope keeps no cancellation.
            return TimedOut(binding.timeout)
        return Failed(error)
    return Made(result, outputs, context.seal() or [], time.perf_counter() - started, answer, code)


def _responded(binding: Binding, result: Any, message: LocalMessage) -> tuple[int, bytes]:
    """Status and body of the response to an HTTP request. If a request is stored, the body is empty, because no stream is known here."""
    if binding.output is not None:
        return (ACCEPTED, b"") if result is not None else (NO_CONTENT, b"")
    if binding.kind.endswith("generator"):
        return OK, b"".join(event(item) for item in result)
    found = rendered(result, msgpack=message.takes_msgpack)
    return found.status, found.body


async def _called(binding: Binding, call: arguments.Call, given: Sequence[Any]) -> Any:
    """The result of the handler, or of a hook in its place; for a generator, the list of its items."""
    kind = binding.kind
    if not binding.around:
        return await called(kind, batches.single(binding, call, kind), given)
    call = surrounded(call, binding, partial(called, kind))
    result = await called("async", batches.single(binding, call, "async"), given)
    if not (binding.batch and kind.endswith("generator")):
        return result
    return [] if result is None else [result]


async def called(kind: Kind, handler: Callable[..., Any], given: Sequence[Any]) -> Any:
    """The result of a handler of this kind; for a generator, the list of its items."""

    def guarded() -> tuple[bool, Any]:
        # SystemExit and StopIteration do not travel from a thread as they are.
        try:
            value = handler(*given)
            return True, list(value) if kind == "thread_generator" else value
        except BaseException as error:  # noqa: BLE001  raised again below
            return False, error

    match kind:
        case "async":
            return await finished(await handler(*given))
        case "async_generator":
            return [item async for item in handler(*given)]
        case "thread" | "thread_generator":
            fine, value = await anyio.to_thread.run_sync(guarded, abandon_on_cancel=True)
            if fine:
                return await finished(value)
            raise value


def outputs_of(binding: Binding, items: Sequence[Any], subject: str) -> list[Staged]:
    """The outputs of a handler's returned value or yielded items."""
    if binding.output is None or not items:
        return []
    asked = target_of(binding.route, subject) if binding.route is not None else None
    target = binding.output.render(asked.params if asked is not None else binding.subject.extract(subject))
    return [Staged(target, codec.encode(item)) for item in items]
