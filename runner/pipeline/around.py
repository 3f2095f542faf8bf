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

from msgspec import structs

from runner.arguments import Call
from runner.bindings import Binding
from runner.context import Context
from runner.staged import Staged

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
        inner = _around(hook, inner, listed=listed)

    def call_all(*given: Any) -> Awaitable[Any]:
        return inner(given[taker], given[:count])

    return structs.replace(call, handler=call_all)


def _around(hook: Callable[..., Any], inner: Inner, *, listed: bool) -> Inner:
    """One hook around what is inside of it; `listed`: what the handler gives is a list."""

    async def run(context: Context[Any], given: Sequence[Any]) -> Any:
        call = Once(hook, inner, context, given)
        try:
            answer = await hook(context, call)
        finally:
            if call.end():
                await call.stop()
        if answer is None:
            return call.outcome()
        if listed and not isinstance(answer, (list, tuple)):
            raise TypeError(
                f"the hook {call.name} returned a {type(answer).__name__} in place of a list: give one with an element for each "
                "message of a batch, or item of a generator"
            )
        call.drop()
        return answer

    return run


class Once:
    """What a hook awaits as `call()`."""

    __slots__ = (
        "_before",
        "_context",
        "_ended",
        "_error",
        "_failed",
        "_given",
        "_hook",
        "_inner",
        "_result",
        "_task",
    )

    def __init__(
        self, hook: Callable[..., Any], inner: Inner, context: Context[Any], given: Sequence[Any]
    ) -> None:
        self._hook = hook
        self._inner: Inner | None = inner
        """None once it was called."""
        self._context = context
        self._given = given
        self._task: asyncio.Task[Any] | None = None
        """The task in which it runs now."""
        self._ended = False
        self._error: BaseException | None = None
        self._result: Any = None
        self._failed: list[tuple[list[Staged], int, int]] = []
        """What a handler that has failed had published until then: lists, and where its own part of each begins and ends."""

    async def __call__(self) -> Any:
        """Run the handler, or the next hook: what it returned. Raises what it raises; RuntimeError when it may not run now."""
        inner, self._inner = self._inner, None
        if inner is None or self._ended:
            raise RuntimeError(self._refusal())
        self._task = asyncio.current_task()
        before = {id(each): len(each.staged) for each in _publishing(self._context) if each.staged}
        try:
            self._result = await inner(self._context, self._given)
        except BaseException as error:
            self._error = error
            self._failed = [
                (each.staged, before.get(id(each), 0), len(each.staged))
                for each in _publishing(self._context)
            ]
            raise
        finally:
            self._task = None
        return self._result

    @property
    def name(self) -> str:
        """Of the hook."""
        return f"{self._hook.__module__}.{self._hook.__qualname__}"

    def _refusal(self) -> str:
        if self._ended:
            return f"the hook {self.name} has ended: its call() can run nothing any more; await it before the hook returns"
        return f"the hook {self.name} has awaited call() a second time: it runs the handler once; raise Retry for another attempt"

    def end(self) -> bool:
        """The hook has ended; whether the handler still runs."""
        self._ended = True
        return self._task is not None

    async def stop(self) -> None:
        """Cancel the task in which the handler runs, and return once it has ended."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})

    def outcome(self) -> Any:
        """What stands when the hook returned None. Raises what the handler raised."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else it and its traceback would hold each other
        if self._inner is not None:
            raise RuntimeError(
                f"the hook {self.name} returned None and has not awaited call(), so the handler did not run: await it, or return "
                "what takes the place of its result"
            )
        return self._result

    def drop(self) -> None:
        """Something else takes the place of the outcome: a handler that has failed has published nothing."""
        for staged, begin, end in self._failed:
            del staged[begin:end]


def _publishing(context: Context[Any]) -> Sequence[Context[Any]]:
    """The contexts that publish: of a batch those of its messages, once the handler or a hook has asked for them."""
    try:
        messages: Sequence[Context[Any]] = object.__getattribute__(context, "messages")
    except AttributeError:  # it makes them when it is asked
        return (context,)
    return messages or (context,)
