"""Handlers of batches: their results, and how such a handler is called with a single message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runner.arguments import Call
from runner.bindings import Binding
from runner.context import Context
from runner.core.signals import PartialFailure
from runner.signature import Kind


def results(result: Any, count: int) -> Sequence[Any]:
    """The result for each message of a batch. Raises TypeError unless the handler returned None, or an element for each message."""
    if result is None:
        return [None] * count
    if not isinstance(result, (list, tuple)) or len(result) != count:
        what = (
            f"{len(result)} elements" if isinstance(result, (list, tuple)) else f"a {type(result).__name__}"
        )
        raise TypeError(
            f"the handler of a batch of {count} returned {what}: give a list with an element for each message, None for none"
        )
    return result


def context_of(messages: tuple[Context[Any], ...]) -> Context[Any]:
    """The context of a batch. Its fields are those of the first message; each message publishes by its own context."""
    first, context = messages[0], Context.__new__(Context)
    context.function = first.function  # reading one field fills all fields of the first
    for name in Context.__slots__:
        setattr(context, name, getattr(first, name))
    context.messages = messages
    return context


def _lists(arguments: Sequence[Any], taker: int | None) -> list[Any]:
    """The arguments of a single message as those of a batch of one; the context is at place `taker`."""
    return [context_of((each,)) if place == taker else [each] for place, each in enumerate(arguments)]


def single(binding: Binding, call: Call, kind: Kind) -> Callable[..., Any]:
    """A function's handler for the arguments of a single message; `kind` says how the handler of `call` runs."""
    return _alone(call.handler, kind, call.taker) if binding.batch else call.handler


def _alone(many: Callable[..., Any], kind: Kind, taker: int | None) -> Callable[..., Any]:
    """A handler of single messages that calls a handler of batches, and is of the same kind."""

    async def run(*arguments: Any) -> Any:
        with _fails_alone():
            return results(await many(*_lists(arguments, taker)), 1)[0]

    def run_in_thread(*arguments: Any) -> Any:
        with _fails_alone():
            return results(many(*_lists(arguments, taker)), 1)[0]

    async def iterate(*arguments: Any) -> AsyncIterator[Any]:
        with _fails_alone():
            (item,) = results([item async for item in many(*_lists(arguments, taker))], 1)
        if item is not None:
            yield item

    def iterate_in_thread(*arguments: Any) -> Iterator[Any]:
        with _fails_alone():
            (item,) = results(list(many(*_lists(arguments, taker))), 1)
        if item is not None:
            yield item

    kinds: dict[Kind, Callable[..., Any]] = {
        "async": run,
        "thread": run_in_thread,
        "async_generator": iterate,
        "thread_generator": iterate_in_thread,
    }
    return kinds[kind]


def checked(error: BaseException, count: int) -> BaseException:
    """The error of a call with `count` messages. A `PartialFailure` with an index beyond the batch becomes an IndexError."""
    if not isinstance(error, PartialFailure) or (largest := max(error.failures)) < count:
        return error
    has = "1 message: index 0 alone" if count == 1 else f"{count:,} messages: 0 to {count - 1}"
    wrong = IndexError(f"PartialFailure names index {largest}, and the batch has {has}")
    return wrong.with_traceback(error.__traceback__)  # it names the line of user code that raised it


@contextmanager
def _fails_alone() -> Iterator[None]:
    """Raise the error that a `PartialFailure` has for the only message of a batch."""
    try:
        yield
    except PartialFailure as failure:
        error = checked(failure, 1)
        raise (error.failures[0] if isinstance(error, PartialFailure) else error) from None
