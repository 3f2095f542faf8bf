"""An attempt that runs in a cell: the part that the pipeline does in this process, and the results from the cell."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from runner.core.settlement import Outcome
from runner.jetstream.delivery import Delivery
from runner.pipeline.message import Incoming
from runner.pipeline.outcomes import Outcomes
from runner.pipeline.reporter import Reporter
from runner.pipeline.stats import Stats
from runner.runtime.cell import Cell
from runner.runtime.cellline import Job, Late
from runner.runtime.slots import clear_cancellation
from runner.staged import Staged

Ended: TypeAlias = tuple[Outcome, list[Staged]]


class Confined:
    """Runs messages of one function in cells."""

    def __init__(
        self,
        function: str,
        attempts: Reporter,
        outcomes: Outcomes,
        stats: Stats,
        owns: Callable[[Delivery], Awaitable[bool]],
        until: Callable[[], float],
    ) -> None:
        """`owns` waits until a message may start, and says whether it is still ours. `until` says up to when it may start."""
        self._function = function
        self._attempts = attempts
        self._outcomes = outcomes
        self._stats = stats
        self._owns = owns
        self._until = until

    async def run(self, incoming: Incoming, task: Any, admitted: bool, cell: Cell) -> Ended | None:
        """The handler's outcome and outputs; None if the message is another owner's by now.

        Raises `Died` and `Missing`.
        """
        delivery = incoming.delivery
        span = delivery.span = self._attempts.start(incoming, admitted)
        trace = span.inject() if span is not None and span.sampled else self._attempts.passed_on(incoming)
        while await self._owns(delivery):
            delivery.started, delivery.task, delivery.in_cell = time.monotonic(), task, True
            try:
                report = await cell.run(self._job(delivery, trace))
            except Exception:
                delivery.task = None
                raise
            except BaseException as error:  # noqa: BLE001  # a cancellation
                return await self._outcomes.outcome_of(delivery, error), []
            finally:
                delivery.in_cell = False
            if isinstance(report, Late):
                delivery.task = None
                continue
            self._stats.took(time.monotonic() - delivery.started, span)
            if task.cancelling():
                await clear_cancellation(task)
            if delivery.overdue:
                return await self._outcomes.outcome_of(delivery, None), []
            delivery.task = None
            return report.outcome, report.made
        return None

    def _job(self, delivery: Delivery, trace: list[tuple[str, str]]) -> Job:
        return Job(
            function=self._function,
            subject=delivery.subject,
            reply=delivery.reply,
            header=delivery.header,
            body=delivery.body,
            sequence=delivery.sequence,
            attempt=delivery.attempt,
            shard=getattr(delivery.source, "number", None),
            until=self._until(),
            trace=trace,
            joined=delivery.joined,
        )
