"""Where messages of a shard go whose turn it is: to their function's queue, by batches where it takes such."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery
from runner.ordered.keybatches import KeyBatches
from runner.ordered.shardbatches import ShardBatches
from runner.ordered.shared import Shared
from runner.ordered.spill import Spill
from runner.pipeline.queue import Queue


def before_queue(
    shared: Shared,
    ordering: Ordering,
    unsettled: dict[int, Delivery],
    start: Callable[[Sequence[int]], None],
) -> Queue | KeyBatches:
    """Where messages of a shard go whose turn it is: to the function's queue, by batches where it takes such."""
    if shared.windows is None:
        return shared.pipeline.queue
    kind = ShardBatches if shared.pipeline.binding.batch_by == "shard" else KeyBatches
    return kind(shared, shared.windows, ordering, unsettled, start)


def noticing(queue: Queue | KeyBatches, spill: Spill, wake: Callable[[], None]) -> Callable[[Delivery], None]:
    """What is called with a message that has to wait in its lane, so that batches know of it; `wake` when more may come."""
    if isinstance(queue, Queue):
        return spill.add
    queue.spill, queue.wake, add, grown = spill, wake, spill.add, queue.grown

    def noticed(delivery: Delivery) -> None:
        add(delivery)
        grown(delivery)

    return noticed
