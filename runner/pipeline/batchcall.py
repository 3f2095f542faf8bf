"""One call of a handler with many messages: their arguments, and the call's outcome."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from runner import batches, codec
from runner.bindings import Binding
from runner.codec import DecodeError
from runner.context import Context
from runner.core.settlement import Outcome
from runner.jetstream.delivery import Delivery
from runner.pipeline.call import Calling
from runner.pipeline.message import is_msgpack
from runner.pipeline.outcomes import Outcomes
from runner.pipeline.reporter import CallSpan, Reporter, error_of
from runner.runtime.slots import clear_cancellation
from runner.staged import Staged

clock = time.monotonic


class CalledBatch(Struct, eq=False):
    """Messages that are called together."""

    deliveries: Sequence[Delivery]
    columns: list[Any]
    """The arguments: for each parameter a list, with an element for each message."""
    contexts: tuple[Context[Any], ...] = ()
    """The contexts of the messages; made once the handler asks for them."""
    sealed: bool = False

    def only(self, deliveries: Sequence[Delivery]) -> CalledBatch:
        """The same batch with these messages alone, before the call; nothing is decoded twice."""
        kept = {*deliveries}
        places = [at for at, each in enumerate(self.deliveries) if each in kept]
        columns = [column and [column[at] for at in places] for column in self.columns]
        return CalledBatch([self.deliveries[at] for at in places], columns)

    def ask(self, make: Callable[[Delivery], Context[Any]]) -> tuple[Context[Any], ...]:
        """Make the contexts."""
        self.contexts = tuple(map(make, self.deliveries))
        if self.sealed:
            self.seal()
        return self.contexts

    def seal(self) -> list[list[Staged] | None] | None:
        """End publishing; returns what each message has published, or None if the handler did not ask for their contexts."""
        self.sealed = True
        return [context.seal() for context in self.contexts] if self.contexts else None


class BatchCall:
    """Calls the handler of one function."""

    def __init__(self, binding: Binding, calling: Calling, outcomes: Outcomes, attempts: Reporter) -> None:
        self._calling = calling
        self._outcomes = outcomes
        self._attempts = attempts
        self._in_order = bool(binding.ordered_by)

    def bind(self, deliveries: Sequence[Delivery]) -> tuple[CalledBatch, dict[int, DecodeError]]:
        """The batch of the messages that can be decoded, and the errors of the others, by place."""
        columns = self._columns(deliveries)
        if columns is not None:
            return CalledBatch(deliveries, columns), {}
        wrong: dict[int, DecodeError] = {}
        rows: list[Sequence[Any]] = []
        for at, each in enumerate(deliveries):
            try:
                rows.append(self._calling.bind(each.subject, each.body, is_msgpack(each.header), None))
            except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
                wrong[at] = codec.explain(error)
        if wrong:
            deliveries = [each for at, each in enumerate(deliveries) if at not in wrong]
        return CalledBatch(deliveries, [list(column) for column in zip(*rows, strict=True)]), wrong

    def _columns(self, deliveries: Sequence[Delivery]) -> list[Any] | None:
        """The arguments, with all bodies decoded in one go; None if that is not possible, or a body cannot be decoded."""
        columns = self._calling.columns
        if columns is None:
            return None
        headers = b"".join([each.header for each in deliveries if each.header is not None])
        if b"msgpack" in headers.lower() and any(is_msgpack(each.header) for each in deliveries):
            return None
        try:
            return columns([each.subject for each in deliveries], [each.body for each in deliveries])
        except Exception:  # noqa: BLE001  # which body is wrong is found when each is decoded for itself
            return None

    async def __call__(
        self, batch: CalledBatch, task: asyncio.Task[Any]
    ) -> tuple[Outcome | None, Sequence[Any]]:
        """Call the handler; returns its outcome, or None for success together with the result of each message."""
        deliveries, now = batch.deliveries, clock()
        head = deliveries[0]
        for each in deliveries:
            each.started = now
            if self._in_order:  # a lane is held until its handler has ended, whichever message of it is asked
                each.task = task
        head.task, head.overdue = task, False  # the sweeper looks at the deadline of one of them
        span = self._attempts.batch(deliveries)
        try:
            if self._calling.taker is not None:
                batch.columns[self._calling.taker] = self._calling.batch_context(head, batch.ask)
            made = batches.results(await self._calling(batch.columns, batch=True), len(deliveries))
        except BaseException as error:  # noqa: BLE001  # whatever user code raises is judged
            batch.seal()
            error = batches.checked(error, len(deliveries))
            return await self._judged(deliveries, error, span), ()
        if task.cancelling():
            await clear_cancellation(task)
        if head.overdue:
            return await self._judged(deliveries, None, span), ()
        self._ended(deliveries)
        if span is not None:
            span.leave()
        return None, made

    async def _judged(
        self, deliveries: Sequence[Delivery], error: BaseException | None, span: CallSpan | None
    ) -> Outcome:
        try:
            outcome = await self._outcomes.outcome_of(deliveries[0], error)
        except BaseException:  # the process ends
            if span is not None:
                span.leave()
            raise
        self._ended(deliveries)
        if span is not None:
            span.leave(error_of(outcome))
        return outcome

    def _ended(self, deliveries: Sequence[Delivery]) -> None:
        deliveries[0].task = None
        if self._in_order:
            for each in deliveries:
                each.task, each.overdue = None, False


def is_changed(variables: contextvars.Context) -> bool:
    """Whether a handler has left a context variable behind."""
    try:
        return contextvars.copy_context() != variables
    except Exception:  # noqa: BLE001  # of a value that cannot be compared
        return True
