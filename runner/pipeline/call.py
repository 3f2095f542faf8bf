"""Calling a handler: in the loop or in a thread, for one result or for a generator's items."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread

from runner import arguments, batches
from runner.bindings import Binding
from runner.context import Context
from runner.core.sharding import key
from runner.jetstream.delivery import Delivery
from runner.pipeline.awaited import finished
from runner.pipeline.message import Incoming, read
from runner.runtime.runtime import Runtime
from runner.runtime.sharing import SHARING


class Calling:
    """How one function is called."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._binding = binding
        call = arguments.compile_call(binding)
        self.bind = call.bind
        self.handler = batches.single(binding, call)
        """Takes what `bind` gives."""
        self.many, self.columns, self.taker = call.handler, call.columns, call.taker
        self.takes_context = call.taker is not None
        self.awaited = binding.kind == "async"
        """Whether calling it is all there is to do: it runs in the loop, and gives one result."""
        self.threaded = binding.kind.startswith("thread")
        """Whether it runs where a cancellation cannot reach it."""
        self._kind = binding.kind
        self._threads = anyio.CapacityLimiter(binding.concurrency)
        self._key_positions = binding.key_positions

    def context(self, delivery: Delivery) -> Context[Any]:
        """What the handler may know about its message, once it asks."""
        return Context.about(delivery, delivery.attempt, self._facts)

    def bound(self, incoming: Incoming, context: Context[Any]) -> Sequence[Any]:
        """The arguments of a message, or of the event that it runs for. Raises whatever decoding raises."""
        if (joined := incoming.delivery.joined) is not None:
            return self.bind(joined.subject, joined.body, True, context)
        subject = incoming.origin.subject.encode(errors="surrogateescape")
        return self.bind(subject, incoming.delivery.body, incoming.msgpack, context)

    def batch_context(
        self, first: Delivery, ask: Callable[[Callable[[Delivery], Context[Any]]], tuple[Context[Any], ...]]
    ) -> Context[Any]:
        """The same of a batch, by its first message; `ask` makes the contexts of all of them."""

        def know(delivery: Delivery) -> dict[str, Any]:
            return {**self._facts(delivery), "messages": ask(self.context)}

        return Context.about(first, first.attempt, know)

    def _facts(self, delivery: Delivery) -> dict[str, Any]:
        origin, joined = read(delivery).origin, delivery.joined
        return {
            "function": self._binding.function,
            "subject": origin.subject if joined is None else joined.subject.decode(errors="surrogateescape"),
            "template": self._binding.subject,
            "headers": delivery.header if joined is None else joined.header,
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
        except ValueError:  # sent back by somebody who made its origin up
            return None

    async def __call__(self, arguments: Sequence[Any], *, batch: bool = False) -> Any:
        """What the handler returned; of a generator, the list of its items. Of a batch the arguments are lists."""
        handler = self.many if batch else self.handler
        if self._binding.batch and not batch and self._kind.endswith("generator"):
            items = await self._called(handler, arguments)
            return items[0] if items else None
        return await self._called(handler, arguments)

    async def _called(self, handler: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        match self._kind:
            case "async":
                return await finished(await handler(*arguments))
            case "async_generator":
                return [item async for item in handler(*arguments)]
            case "thread":
                return await finished(await self._in_thread(lambda: handler(*arguments)))
            case "thread_generator":
                return await self._in_thread(lambda: list(handler(*arguments)))

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        """Abandoned when the process ends; until then the slot is held as long as the thread runs."""

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
