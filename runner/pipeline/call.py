"""Calling a handler: in the loop or in a thread, for one result or for a generator's items."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from runner import arguments, batches
from runner.bindings import Binding
from runner.context import Context
from runner.core import parts
from runner.core.sharding import key
from runner.jetstream.delivery import Delivery
from runner.pipeline.around import surrounded
from runner.pipeline.awaited import finished
from runner.pipeline.message import Incoming, read
from runner.runtime.runtime import Runtime
from runner.runtime.sharing import SHARING
from runner.signature import Kind

log = logging.getLogger("jetrunner.pipeline")


class Calling:
    """How one function is called."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._binding = binding
        hooked = bool(binding.around)
        call = arguments.compile_call(binding, with_context=hooked)
        self._kind: Kind = binding.kind
        """How the handler below runs."""
        if hooked:
            call = surrounded(call, binding, partial(self._called, binding.kind))
            self._kind = "async"
        self.bind = call.bind
        self.handler = batches.single(binding, call, self._kind)
        """The handler for a single message; takes the arguments that `bind` returns."""
        self.many, self.columns, self.taker = call.handler, call.columns, call.taker
        self.takes_context = call.taker is not None
        self.awaited = binding.kind == "async"
        """Whether awaiting the handler is enough: it runs in the loop, and returns one result."""
        self.threaded = self._kind.startswith("thread")
        """Whether the handler runs in a thread, where a cancellation cannot reach it."""
        self._in_thread = self._held if hooked else self._abandoned
        self._threads = anyio.CapacityLimiter(binding.concurrency)
        self._key_positions = binding.key_positions

    def context(self, delivery: Delivery) -> Context[Any]:
        """The handler's context, whose values are read when the handler asks for them."""
        return Context.about(delivery, delivery.attempt, self._facts)

    def bound(self, incoming: Incoming, context: Context[Any]) -> Sequence[Any]:
        """The arguments from a message, or from the joined event that it runs for. Raises the errors of decoding."""
        if (joined := incoming.delivery.joined) is not None:
            return self.bind(joined.subject, joined.body, True, context)
        subject = incoming.origin.subject.encode(errors="surrogateescape")
        return self.bind(subject, incoming.delivery.body, incoming.msgpack, context)

    def batch_context(
        self, first: Delivery, ask: Callable[[Callable[[Delivery], Context[Any]]], tuple[Context[Any], ...]]
    ) -> Context[Any]:
        """The context of a batch, by its first message; `ask` makes the contexts of all its messages."""

        def know(delivery: Delivery) -> dict[str, Any]:
            return {**self._facts(delivery), "messages": ask(self.context)}

        return Context.about(first, first.attempt, know)

    def _facts(self, delivery: Delivery) -> dict[str, Any]:
        origin, joined = read(delivery).origin, delivery.joined
        return {
            "function": self._binding.function,
            "subject": origin.subject if joined is None else joined.subject.decode(errors="surrogateescape"),
            "template": self._binding.subject,
            "headers": delivery.header if joined is None else parts.placeless(joined.header or b""),
            "missing": () if joined is None else joined.missing,
            "attempts": self._binding.retry.attempts,
            "stream": origin.stream,
            "sequence": origin.sequence,
            "timestamp_ns": origin.timestamp_ns,
            "expires": delivery.started + self._binding.timeout,
            "key": self._key(origin.subject),
            "shard": getattr(delivery.source, "number", None),
            "state": self._runtime.state,
            "scheduled": self._binding.schedule,
            "host": self._runtime.requester,
        }

    def _key(self, subject: str) -> str | None:
        if not self._key_positions:
            return None
        try:
            return key(subject, self._key_positions)
        except ValueError:  # somebody has sent it back with an invented origin
            return None

    async def __call__(self, arguments: Sequence[Any], *, batch: bool = False) -> Any:
        """Call the handler; returns its result, or the list of a generator's items. For a batch the arguments are lists."""
        handler = self.many if batch else self.handler
        if self._binding.batch and not batch and self._kind.endswith("generator"):
            items = await self._called(self._kind, handler, arguments)
            return items[0] if items else None
        return await self._called(self._kind, handler, arguments)

    async def _called(self, kind: Kind, handler: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        match kind:
            case "async":
                result = await handler(*arguments)
                return result if result is None else await finished(result)
            case "async_generator":
                return [item async for item in handler(*arguments)]
            case "thread":
                return await finished(await self._in_thread(lambda: handler(*arguments)))
            case "thread_generator":
                return await self._in_thread(lambda: list(handler(*arguments)))

    async def _held(self, call: Callable[[], Any]) -> Any:
        """Run a handler with hooks in a thread; a cancellation takes effect once the thread has ended.

        So no slot goes on to the next message while a thread of the last one runs, unless the process ends.
        """
        thread = asyncio.create_task(self._abandoned(call))
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not thread.done():
                try:
                    await asyncio.wait({thread})
                except asyncio.CancelledError as error:
                    if self._runtime.cancelling:
                        thread.cancel()
                        raise
                    if cancelled is None:
                        log.warning(
                            "%s: a hook was cancelled, and waits for its thread", self._binding.function
                        )
                    cancelled = error
        if cancelled is None:
            return thread.result()
        if not thread.cancelled():
            thread.exception()  # looked at, or asyncio would log it
        raise cancelled

    async def _abandoned(self, call: Callable[[], Any]) -> Any:
        """Run a handler in a thread. The slot is held as long as the thread runs; only the end of the process abandons it."""

        def guarded() -> tuple[bool, Any]:
            # A future cannot carry StopIteration, and SystemExit through one would end the loop.
            try:
                with SHARING:
                    return True, call()
            except BaseException as error:  # noqa: BLE001  # raised again on the other side
                return False, error

        context = contextvars.copy_context()
        fine, value = await anyio.to_thread.run_sync(
            lambda: context.run(guarded), abandon_on_cancel=True, limiter=self._threads
        )
        if fine:
            return value
        raise value
