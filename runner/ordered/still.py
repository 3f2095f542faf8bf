"""Why a shard does not go on: checked at intervals, reported with its reason, and then the server is asked again."""

from __future__ import annotations

from runner.ordered.shard import Shard
from runner.ordered.spill import SPILLED
from runner.ordered.standstill import Standstill
from runner.pipeline.queue import Queue

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 15.0
"""How often the server is asked again about a shard that stands still."""


class Still:
    """Watches one shard that this instance owns."""

    def __init__(self, shard: Shard, queue: Queue) -> None:
        self.standstill = Standstill()
        self._shard = shard
        self._queue = queue
        self._looked = 0.0
        self._asked = 0.0
        self._mark: tuple[object, ...] | None = ()
        """The shard's figures at the last look; None if the server was just asked again, which changes them."""

    def look(self, now: float) -> None:
        """See whether the shard goes on; called a few times a second."""
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        shard, lanes = self._shard, self._shard.lanes
        unsettled, ordering = lanes.unsettled, lanes.ordering
        mark = ordering.top, ordering.awaited, len(unsettled), min(unsettled, default=0)
        moved, self._mark = self._mark is not None and mark != self._mark, mark
        reason = "" if moved or not lanes.owned or not unsettled else self._reason(now)
        late = self.standstill.look({f"shard {shard.name}": reason} if reason else {}, now)
        if late and now - self._asked >= AGAIN_SECONDS:
            self._asked = now
            self._mark = None
            shard.doubt()

    def _reason(self, now: float) -> str:
        """Why the shard stands still; empty if a handler runs, a batch waits to fill, or a message waits for its next attempt."""
        lanes, ordering = self._shard.lanes, self._shard.lanes.ordering
        if why := lanes.pull.guard.why(now):
            return why
        if ordering.barrier and ordering.awaited:
            return f"it waits for {ordering.awaited:,} messages that its last owner left"
        heads = ordering.heads()
        here = [lanes.unsettled[each] for each in heads if each in lanes.unsettled]
        if lanes.batches.lingers or any(
            each.task is not None or each.started or each in lanes.rests for each in here
        ):
            return ""
        if any(each.body is SPILLED for each in here):
            return "its next messages are being read from the stream again"
        if any(each in self._queue.deliveries for each in here):
            return "its messages wait for a slot"
        if ordering.uncommitted:
            return "what was settled is not on record yet"
        if ordering.barrier:
            return "the server is being asked what its last owner left"
        return f"{len(heads):,} of its keys are held, and no handler runs"
