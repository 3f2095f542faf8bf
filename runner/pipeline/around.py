"""`@around`: hooks around a handler, compiled into what is called in its place. A function without hooks knows nothing of it.

Rule 1: `call()` runs the handler, and the hooks inside of this one, once; its arguments are bound before the first hook.
Rule 2: a hook that returns None lets stand what `call()` gave, or raised; anything else takes its place. What a handler that
        failed has published is dropped then, too.
Rule 3: no handler runs on when its hook has ended: it is cancelled, and its end is waited for.
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
"""Runs what is inside of a hook, with the context and the handler's arguments."""


def surrounded(
    call: Call, binding: Binding, run: Callable[[Callable[..., Any], Sequence[Any]], Awaitable[Any]]
) -> Call:
    """The same call with the binding's hooks around it: its handler is a coroutine function, whatever it was.

    `call` is compiled with the context; `run` runs a handler of the function's own kind with its arguments.
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
    """One hook around what is inside of it; `listed`: what the handler gives is a list."""
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


class Published(Struct, frozen=True):
    """How what a handler publishes is counted, and dropped again."""

    count: Callable[[Context[Any]], Any]
    """How much has been published so far."""
    drop: Callable[[Context[Any], Any, Any], None]
    """Drop what was published between two counts."""


class HookCall:
    """What a hook awaits as `call()`. Its fields have their first values in the class: one is made for each hook of each message."""

    begun = False
    returned = False
    ended = False
    """Whether the hook has."""
    task: asyncio.Task[Any] | None = None
    """The task in which the handler runs now."""
    error: BaseException | None = None
    """What the handler raised."""
    result: Any = None
    first: Any = None
    last: Any = None
    """How much was published before the handler, and until it has failed."""

    def __init__(
        self, name: str, inner: Inner, context: Context[Any], given: Sequence[Any], published: Published
    ) -> None:
        """`name` is the hook's."""
        self.published = published
        self.name = name
        self.inner = inner
        self.context = context
        self.given = given

    async def __call__(self) -> Any:
        """Run the handler, or the next hook: what it returned. Raises what it raises; RuntimeError when it may not run now."""
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
        """What a hook that returned None lets stand where the handler returned nothing: what that raised, or an error of the hook's."""
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
        """Remember how much has been published, before the handler and after it."""
        self.first, self.last = self.last, self.published.count(self.context)

    def drop(self) -> None:
        """Something else takes the place of what the handler raised: it has published nothing."""
        self.error = None
        self.published.drop(self.context, self.first, self.last)


def _drop(context: Context[Any], first: int, last: int) -> None:
    del context.staged[first:last]


def _count_each(context: Context[Any]) -> dict[int, int]:
    """By the place of its message in the batch, each of which has a context that publishes."""
    return {at: each.count_staged() for at, each in enumerate(_messages(context))}


def _drop_each(context: Context[Any], first: dict[int, int], last: dict[int, int]) -> None:
    for at, each in enumerate(_messages(context)):
        del each.staged[first.get(at, 0) : last.get(at, 0)]


def _messages(context: Context[Any]) -> Sequence[Context[Any]]:
    """The contexts of the messages, once the handler or a hook has asked for them: before, nothing is published."""
    try:
        messages: Sequence[Context[Any]] = object.__getattribute__(context, "messages")
    except AttributeError:
        return ()
    return messages


MESSAGE = Published(lambda context: context.count_staged(), _drop)
BATCH = Published(_count_each, _drop_each)
