"""Where a message of a shard goes when its turn comes: to its function's queue, or into a batch if the function takes batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery
from runner.ordered.batchlanes import BatchLanes
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
) -> Queue | KeyBatches | ShardBatches:
    """The queue for messages whose turn it is: the function's own, or one that makes batches if the function takes batches."""
    if shared.windows is None:
        return shared.pipeline.queue
    lanes = BatchLanes(shared, shared.windows, ordering, unsettled, start)
    return ShardBatches(lanes) if shared.pipeline.binding.batch_by == "shard" else KeyBatches(lanes)


def noticing(
    queue: Queue | KeyBatches | ShardBatches, spill: Spill, wake: Callable[[], None]
) -> Callable[[Delivery], None]:
    """The function that is called with each message that has to wait in its lane, so that spill and batches count it.

    Batches call `wake` when the pull may ask for more messages.
    """
    if isinstance(queue, Queue):
        return spill.add
    queue.lanes.spill, queue.lanes.wake, add, grown = spill, wake, spill.add, queue.grown

    def noticed(delivery: Delivery) -> None:
        add(delivery)
        grown(delivery)

    return noticed
