"""One function in this process: its pipeline, and where its messages come from."""

from __future__ import annotations

from runner.bindings import Binding
from runner.consumers.functiondurables import FunctionDurables
from runner.core import identity
from runner.ordered.functionshards import FunctionShards
from runner.pipeline.deadlines import Deadlines
from runner.pipeline.message import read
from runner.pipeline.outcomes import StartGuard
from runner.pipeline.pipeline import Pipeline
from runner.pipeline.stats import JoinCounts
from runner.runtime.runtime import Runtime

Intake = FunctionDurables | FunctionShards
"""Where a function's messages come from. Both start, stop and tell of what is here by the same names."""


class Function:
    """One function. Its messages come from durables or, where it has `ordered_by`, from the shards that this instance owns."""

    def __init__(self, runtime: Runtime, binding: Binding, stream: str, guard: StartGuard) -> None:
        self.binding = binding
        self.stream = stream
        self.durable = binding.durable or identity.durable(runtime.project, binding.function)
        self.pipeline = Pipeline(runtime, binding)
        self.stats = self.pipeline.stats
        """Counts of what the function has done in this process."""
        self.durables: FunctionDurables | None = None
        """None if the function is ordered."""
        self.shards: FunctionShards | None = None
        """None if the function is not ordered."""
        self.intake: Intake
        if binding.ordered_by:
            self.intake = self.shards = FunctionShards(runtime, self.pipeline, stream, self.durable, guard)
        else:
            self.intake = self.durables = FunctionDurables(runtime, self.pipeline, stream, self.durable)
        self._deadlines = Deadlines(runtime, self.pipeline)
        self._unkept = runtime.errors.unkept

    def sweep(self, now: float) -> None:
        """Extend ack waits, check deadlines, and look after each shard; called about ten times a second."""
        self._deadlines.sweep(now)
        if self.shards is not None:
            self.shards.sweep(now)

    async def keep(self) -> None:
        """Save the floors, and look at what waits; called every few seconds."""
        if self.pipeline.gathering is not None:
            await self.pipeline.gathering.keep()
        await self.intake.keep()

    @property
    def joins(self) -> JoinCounts | None:
        """Counts of events joined without all their parts; None if the function joins none."""
        return self.pipeline.gathering.counts if self.pipeline.gathering is not None else None

    @property
    def busy(self) -> int:
        """Slots in which a handler runs."""
        return len({each.task for pull in self.pipeline.pulls for each in pull.unsettled.values()} - {None})

    @property
    def at_work(self) -> list[str]:
        """The messages that the function's handlers run with now, in words."""
        running = (
            each
            for pull in self.pipeline.pulls
            for each in list(pull.unsettled.values())
            if each.task is not None
        )
        return [f"{read(each).id} ({read(each).origin.subject}), attempt {each.attempt}" for each in running]

    @property
    def blocked(self) -> str:
        """Why the function can read no messages here; empty while it can."""
        return self.intake.blocked

    @property
    def unsettled(self) -> int:
        """Unsettled messages in this process."""
        return self.intake.unsettled

    @property
    def throttled(self) -> bool:
        """Whether the function takes fewer messages than it could."""
        return self.durables is not None and bool(self.durables.throttled)

    @property
    def unkept(self) -> int:
        """Errors of attempts to be retried that could not be kept."""
        return self._unkept[self.binding.function]
