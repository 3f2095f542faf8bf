"""`@around`: hooks around a handler, compiled into one call that replaces the handler's. A function without hooks pays nothing.

Rule 1: `call()` runs the handler, and the hooks inside of this one, once; its arguments are bound before the first hook.
Rule 2: if a hook returns None, the result or error of `call()` counts; any other value replaces it. If the handler failed, what it
        published is dropped even then.
Rule 3: when a hook ends while its handler still runs, the handler is cancelled, and its end is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct, structs

from runner.arguments import Call
from runner.bindings import Binding
from runner.context import Context

Inner: TypeAlias = Callable[[Context[Any], Sequence[Any]], Awaitable[Any]]
"""Runs the handler or the next inner hook, with the context and the handler's arguments."""


def surrounded(
    call: Call, binding: Binding, run: Callable[[Callable[..., Any], Sequence[Any]], Awaitable[Any]]
) -> Call:
    """The same call with the binding's hooks around it; its handler is now a coroutine function, whatever its kind was.

    `call` must be compiled with the context. `run` runs a handler of the function's own kind with its arguments.
    """
    handler, taker, count = call.handler, call.taker, len(binding.signature.order)
    assert taker is not None

    def handle(_: Context[Any], given: Sequence[Any]) -> Awaitable[Any]:
        return run(handler, given)

    listed = bool(binding.batch) or binding.kind.endswith("generator")
    inner: Inner = handle
    for hook in reversed(binding.around):
        inner = _around(hook, inner, listed=listed, batched=bool(binding.batch))

    def call_all(*given: Any) -> Awaitable[Any]:
        return inner(given[taker], given[:count])

    return structs.replace(call, handler=call_all)


def _around(hook: Callable[..., Any], inner: Inner, *, listed: bool, batched: bool) -> Inner:
    """One hook around `inner`; `listed`: the handler's result is a list."""
    name, published = f"{hook.__module__}.{hook.__qualname__}", BATCH if batched else MESSAGE

    async def run(context: Context[Any], given: Sequence[Any]) -> Any:
        call = HookCall(name, inner, context, given, published)
        try:
            answer = await hook(context, call)
        except BaseException:
            call.error = None  # else it and its traceback would hold each other
            raise
        finally:
            call.ended = True
            if call.task is not None:
                await call.stop()
        if answer is None:
            return call.result if call.returned else call.unreturned()
        if listed and not isinstance(answer, (list, tuple)):
            raise TypeError(
                f"the hook {name} returned a {type(answer).__name__} in place of a list: give one with an element for each "
                "message of a batch, or item of a generator"
            )
        if call.error is not None:
            call.drop()
        return answer

    return run


class PublishedCounter(Struct, frozen=True):
    """How a handler's published messages are counted, and dropped again."""

    count: Callable[[Context[Any]], Any]
    """Counts the messages published so far."""
    drop: Callable[[Context[Any], Any, Any], None]
    """Drops the messages published between two counts."""


class HookCall:
    """The `call()` that a hook awaits. Its first values stand in the class, because one is made for each hook of each message."""

    begun = False
    returned = False
    ended = False
    """Whether the hook has ended."""
    task: asyncio.Task[Any] | None = None
    """The task in which the handler runs now."""
    error: BaseException | None = None
    """What the handler raised."""
    result: Any = None
    first: Any = None
    last: Any = None
    """The counts of published messages before the handler ran, and when it failed."""

    def __init__(
        self,
        name: str,
        inner: Inner,
        context: Context[Any],
        given: Sequence[Any],
        published: PublishedCounter,
    ) -> None:
        """`name` is the hook's."""
        self.published = published
        self.name = name
        self.inner = inner
        self.context = context
        self.given = given

    async def __call__(self) -> Any:
        """Run the handler or the next hook, and return its result. Raises its errors, and RuntimeError if it may not run now."""
        if self.begun or self.ended:
            raise RuntimeError(self._refusal())
        self.begun = True
        self.task = asyncio.current_task()
        self.mark()
        try:
            self.result = await self.inner(self.context, self.given)
        except BaseException as error:
            self.error = error
            self.mark()
            raise
        finally:
            self.task = None
        self.returned = True
        return self.result

    def _refusal(self) -> str:
        if self.ended:
            return f"the hook {self.name} has ended, and its call() can run nothing any more: await it before the hook returns"
        return f"the hook {self.name} has awaited call() twice, which runs the handler once: raise Retry for another attempt"

    async def stop(self) -> None:
        """Cancel the task in which the handler runs, and return once it has ended."""
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
            await asyncio.wait({self.task})

    def unreturned(self) -> Any:
        """Raise the handler's error, after a hook that returned None; RuntimeError if the hook has not awaited `call()`."""
        error, self.error = self.error, None
        if error is None:
            raise RuntimeError(
                f"the hook {self.name} returned None and has not awaited call(), so the handler did not run: await it, or return "
                "what takes the place of its result"
            )
        try:
            raise error
        finally:
            del error  # as above

    def mark(self) -> None:
        """Count the messages published so far: once before the handler, once after it failed."""
        self.first, self.last = self.last, self.published.count(self.context)

    def drop(self) -> None:
        """The hook has replaced the handler's error: drop what the handler has published."""
        self.error = None
        self.published.drop(self.context, self.first, self.last)


def _drop(context: Context[Any], first: int, last: int) -> None:
    del context.staged[first:last]


def _count_each(context: Context[Any]) -> dict[int, int]:
    """The counts by the place of each message in the batch: each has a context of its own that publishes."""
    return {at: each.count_staged() for at, each in enumerate(_messages(context))}


def _drop_each(context: Context[Any], first: dict[int, int], last: dict[int, int]) -> None:
    for at, each in enumerate(_messages(context)):
        del each.staged[first.get(at, 0) : last.get(at, 0)]


def _messages(context: Context[Any]) -> Sequence[Context[Any]]:
    """The contexts of the messages; empty until the handler or a hook asks for them, because nothing is published before."""
    try:
        messages: Sequence[Context[Any]] = object.__getattribute__(context, "messages")
    except AttributeError:
        return ()
    return messages


MESSAGE = PublishedCounter(lambda context: context.count_staged(), _drop)
BATCH = PublishedCounter(_count_each, _drop_each)
